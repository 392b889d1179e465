"""What rules and profiles must contain so that jobs can run on a cluster."""

import re

import yaml
from tiny_study import PROJECT


def rules():
    """{name: (its text, whether it runs where Snakemake runs)}."""
    found = {}
    for path in sorted((PROJECT / "workflow" / "rules").glob("*.smk")):
        for block in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = block.partition(":")[0]
            found[name] = (block, "\n    localrule: True\n" in block)
    return found


def test_every_job_says_what_it_needs_and_more_at_each_attempt():
    """Would catch a rule whose job a cluster refuses, or kills at every attempt."""
    found = rules()
    assert len(found) > 20
    for name, (text, local) in found.items():
        if "shell:" not in text:
            assert local, f"{name} does nothing and would be a job of a cluster"
            continue
        amount = r"\d+" if local else r"growing\(.+\)"
        for what in ("mem_mb", "runtime"):
            assert re.search(rf"^ +{what}={amount},$", text, re.MULTILINE), f"{name}: {what}"
        assert re.search(r"^    threads: (THREADS|1)$", text, re.MULTILINE), f"{name}: threads"
        assert "    conda:\n        CONDA\n" in text, f"{name}: conda"
        assert "    container:\n        CONTAINER\n" in text, f"{name}: container"


def test_small_jobs_stay_where_snakemake_runs_under_any_name():
    """Would catch `localrules:`, which is lost when a module's rules get a prefix."""
    found = rules()
    assert sum(local for _, local in found.values()) >= 10
    for path in (PROJECT / "workflow" / "rules").glob("*.smk"):
        assert "localrules:" not in path.read_text(), path


def test_sites_and_counted_gpus_stay_out_of_the_cluster_profile():
    """Would catch a GPU slot that allows only one training at a time, or the name of a real cluster."""
    text = (PROJECT / "profiles" / "slurm" / "config.yaml").read_text()
    profile = yaml.safe_load(text)
    assert not {"resources", "default-resources", "set-resources", "cores"} & profile.keys()
    default = yaml.safe_load((PROJECT / "profiles" / "default" / "config.yaml").read_text())
    for key in default.keys() - {"resources"}:
        assert profile[key] == default[key], f"{key}: the cluster would do otherwise"
    # Every entry has a comment with the reason.
    for block in text.strip().split("\n\n"):
        assert block.startswith("#"), block
