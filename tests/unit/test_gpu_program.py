"""The program that measures a GPU runs on a CPU through every part, and judges what it claims to judge."""

import contextlib
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import gpu
import gpu_profile
import gpu_setting
import gpu_steps
import gpu_study
import gpu_weights
import pandas as pd
import pytest
import torch
import yaml
from gpu_setting import Report, Worker
from test_benchmark_programs import run, shared_servers  # noqa: F401

# A network of the same kinds of layers as a ResNet18, which computes in no time.
NETWORK = "timm/test_resnet"
MANIFEST = "results/tiny/data/tiny_birds/manifest.csv"


def program(results, *options):
    return run("benchmarks/gpu.py", "--small", "--results", results, "--threads", 1, *options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """(process, results) of one run of all parts."""
    results = tmp_path_factory.mktemp("gpu")
    study = results / "study.yaml"
    tiny = yaml.safe_load(gpu.TINY.read_text())
    tiny |= {
        "only": ["EPSHN_cosine_resnet18_scratch_sgd_aug"],
        "baseline": "EPSHN_cosine_resnet18_scratch_sgd_aug",
        "untrained": {"backbones": []},
    }
    study.write_text(yaml.safe_dump(tiny))
    options = ["--backbones", NETWORK, "--at-once", 1, 2, "--study", study, "--targets", MANIFEST]
    return program(results, *options), results


def table(results, part):
    return pd.read_csv(results / f"gpu_{part}.csv")


def test_every_part_runs(measured):
    """Would catch a part that no longer runs, a table that is not written, or figures of a CPU that pass for a GPU's."""
    done, results = measured
    text = (results / "gpu.txt").read_text()
    assert done.returncode == 0, text
    assert text.startswith("on a CPU: shows only that the program works\n")
    for part in gpu.PARTS:
        assert f"\n{part}: done, " in text
        assert len(table(results, part))
    assert "Traceback" not in text


def test_candidates_are_compared_with_todays_step(measured):
    """Would catch a whole step in one graph that trains other weights, or a stand-in that is not told."""
    _, results = measured
    steps = table(results, "step").set_index("candidate")
    assert {"today", "compiled", "whole step in one graph", "today, Adam"} <= set(steps.index)
    assert steps["within_tolerance"].all()
    # Nothing is compared that does not change.
    assert "changes weights by 0.0" not in (results / "gpu_step.txt").read_text()
    assert steps.loc["whole step in one graph", "same_bits"]
    assert "no CUDA graphs, eager instead of compiled" in set(steps["stand_in"])
    embedded = table(results, "embed").set_index("candidate")
    assert embedded["same_precision_at_1"].dropna().all()
    assert embedded.loc["today", "greatest_difference"] == 0
    # It computes in another order, so it is not the same model by mistake.
    assert embedded.loc["BatchNorm folded", "greatest_difference"] > 0
    assert "0 BatchNorms are left" in (results / "gpu_embed.txt").read_text()
    assert embedded.loc["search: kept on the device", "same_neighbours"] > 0


def test_goals_and_estimates_stand_beside_what_was_measured(measured):
    """Would catch a goal that is lost, or a rule whose time is not read from Snakemake's records."""
    _, results = measured
    real = table(results, "real").set_index("what")
    assert real["goal"].tolist() == [16_000, 50_000, 60]
    assert not real["reached"].loc["trains"]
    rules = table(results, "workflow").set_index("rule")
    assert rules.loc["list_images", "seconds"] > 0
    assert rules.loc["everything, wall time", "seconds"] > 0
    assert table(results, "together")["trainings"].tolist() == [1, 2]
    assert table(results, "same")["same_bits"].all()


def test_a_part_that_fails_is_reported_and_the_others_go_on(tmp_path):
    """Would catch a failure that ends the program, hides its traceback, or ends with exit code 0."""
    options = ["--parts", "workflow", "simclr", "--study", tmp_path / "missing.yaml"]
    done = program(tmp_path, *options, "--backbones", NETWORK)
    text = (tmp_path / "gpu.txt").read_text()
    assert done.returncode == 1
    assert "\nworkflow: FAILED (1), " in text
    assert "Traceback" in text
    assert "missing.yaml: no such configuration" in text
    assert "\nsimclr: done, " in text


def test_time_that_is_over_leaves_parts_out(tmp_path):
    """Would catch a limit that is ignored, or parts that are left out without a word."""
    done = program(tmp_path, "--minutes", 0)
    text = (tmp_path / "gpu.txt").read_text()
    assert done.returncode == 0, done.stderr
    for part in gpu.PARTS:
        assert f"\n{part}: {gpu.LEFT_OUT}" in text
    assert not list(tmp_path.glob("*.csv"))


def slow(setting, report):
    report.say("begun")
    time.sleep(60)


def broken(setting, report):
    sys.exit("no card")


def test_a_part_is_cut_off_and_keeps_what_it_had(tmp_path, monkeypatch):
    """Would catch a part that hangs for ever, one whose process lives on, or lines that are lost with it."""
    monkeypatch.setattr(gpu, "GRACE", 0)
    monkeypatch.setitem(gpu.PARTS, "real", (__name__, "slow"))
    monkeypatch.setitem(gpu.PARTS, "step", (__name__, "broken"))
    setting = SimpleNamespace(results=tmp_path, left=lambda: 0.5)
    begun = time.monotonic()
    assert gpu.outcome("real", setting) == "cut off: the time was used up"
    assert time.monotonic() - begun < 30
    assert (tmp_path / "gpu_real.txt").read_text() == "begun\n"
    setting.left = lambda: 60
    assert gpu.outcome("step", setting).startswith("FAILED")


def test_a_worker_ends_with_all_that_it_started(tmp_path):
    """Would catch programs of a part that is cut off, such as Snakemake, that keep the card busy."""

    def parent():
        import subprocess

        child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
        (tmp_path / "pid").write_text(str(child.pid))
        time.sleep(600)

    worker = Worker(parent)
    with pytest.raises(TimeoutError):
        worker.result(1)
    # The process may be there until it is reaped.
    status = Path("/proc", (tmp_path / "pid").read_text(), "status")
    for _ in range(100):
        if not status.exists() or "State:\tZ" in status.read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the process lives on")


@pytest.mark.parametrize(
    "fork", [("cuda", "a card"), ("cpu", None)], ids=["finds it", "finds none"]
)
def test_packages_are_imported_once_only_where_forks_keep_the_card(monkeypatch, fork):
    """Would catch a package that asks for cards when it is imported, after which every part runs on the CPU."""
    monkeypatch.setattr(gpu, "PACKAGES", ("tabnanny",))
    monkeypatch.setattr(gpu, "card", lambda: fork)
    monkeypatch.delitem(sys.modules, "tabnanny", raising=False)
    gpu.import_once(("cuda", "a card"))
    assert ("tabnanny" in sys.modules) == (fork[0] == "cuda")


class Card:
    """Stands in for CUDA: records what a capture does."""

    def __init__(self, monkeypatch):
        self.seen = []
        stream = SimpleNamespace(wait_stream=lambda other: None)
        for name, value in {
            "Stream": lambda device: stream,
            "current_stream": lambda device: stream,
            "stream": lambda one: self.during("side stream"),
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.seen.append("replay")),
            "graph": lambda graph: self.during("capture"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextlib.contextmanager
    def during(self, what):
        self.seen.append(f"begin {what}")
        yield
        self.seen.append(f"end {what}")


def test_a_graph_is_captured_after_a_warm_up(monkeypatch):
    """Would catch a capture of first steps, which allocate and choose kernels, or one outside of a graph."""
    card = Card(monkeypatch)
    replay = gpu_steps.captured(lambda: card.seen.append("step"), torch.device("cuda"))
    replay()
    warm_up = ["begin side stream", *["step"] * gpu_steps.WARM_UP, "end side stream"]
    assert card.seen == [*warm_up, "begin capture", "step", "end capture", "replay"]


def test_a_difference_is_judged_by_what_the_training_changes():
    """Would catch a tolerance that lets a wrong step pass, or wrong statistics hidden among many weights."""
    start = {"conv.weight": torch.ones(100), "bn.running_mean": torch.ones(4)}
    start["bn.num_batches_tracked"] = torch.tensor(3)
    today = {
        **start,
        "conv.weight": torch.full((100,), 1.1),
        "bn.running_mean": torch.full((4,), 1.5),
    }
    judge = gpu_weights.error_of_update
    assert judge(today, today, start) == 0
    # A learning rate of 1.2 times the right one.
    faster = {**today, "conv.weight": torch.full((100,), 1.12)}
    assert judge(faster, today, start) == pytest.approx(0.2, rel=1e-3)
    forgotten = {**today, "bn.running_mean": start["bn.running_mean"]}
    assert judge(forgotten, today, start) == pytest.approx(1)
    assert not gpu_weights.equal(forgotten, today)
    assert gpu_weights.difference(forgotten, today) == pytest.approx(1 / 3)
    assert gpu_weights.times_rounding(faster, today, faster) == pytest.approx(1)


def test_time_without_kernels_and_shares_of_kernels():
    """Would catch gaps that overlapping kernels hide, or time of them that counts twice."""
    events = [("one", 0, 10), ("two", 5, 8), ("one", 20, 30), ("two", 28, 40)]
    assert gpu_profile.idle_share(events) == pytest.approx(0.25)
    assert [(name, count) for name, _, count in gpu_profile.shares(events)] == [("one", 2), ("two", 2)]  # fmt: skip
    assert sum(share for _, share, _ in gpu_profile.shares(events)) == pytest.approx(1)


def test_traffic_is_what_operators_read_and_write():
    """Would catch views that count as traffic, or gradients that do not."""
    values = torch.ones(10, 10, requires_grad=True)
    # Two tensors of 400 bytes are read, one is written.
    assert gpu_profile.operator_bytes(lambda: values.t() + values) == 1200
    assert gpu_profile.operator_bytes(lambda: torch.empty(1000)) == 0
    forward = gpu_profile.operator_bytes(lambda: (values * 2).sum())
    assert gpu_profile.operator_bytes(lambda: (values * 2).sum().backward()) > forward


def test_an_estimate_counts_for_the_jobs_that_ran(tmp_path):
    """Would catch an error in percent of all trainings where only some of them ran, or with the wrong sign."""
    took = {"train": [10.0, 10.0], "pack": [3.0]}
    for whole, expected, error in ((True, 60, 200), (False, 30, 50)):
        report = Report(tmp_path, "workflow")
        gpu_study.compare(report, took, {"train": (60.0, 4)}, whole=whole)
        rules = table(tmp_path, "workflow").set_index("rule")
        assert rules.loc["train", "estimated"] == expected
        assert rules.loc["train", "error_percent"] == pytest.approx(error)
        assert pd.isna(rules.loc["pack", "estimated"])


def test_without_snakemake_the_study_is_the_same(monkeypatch, tmp_path):
    """Would catch a machine with little but torch on which nothing can be reckoned, or another study is."""
    files = [gpu.TINY]
    expected = gpu_study.study_of(files)
    for name in ("estimate", "dmlstudy.plan.reading", "snakemake"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    # An import of a module that is None is an error.
    monkeypatch.setitem(sys.modules, "snakemake.utils", None)
    with monkeypatch.context() as inner:
        for name in ("snakemake", "snakemake.utils", "estimate"):
            inner.setitem(sys.modules, name, None)
        inner.delitem(sys.modules, "estimate")
        found = gpu_study.study_of(files)
        assert sys.modules["snakemake.utils"].update_config is gpu_setting.merge
    assert found.config == expected.config
    assert found.experiments == expected.experiments
    monkeypatch.setattr(gpu_study, "has_snakemake", lambda: False)
    gpu_study.workflow(None, Report(tmp_path, "workflow"))
    assert "Snakemake is not installed" in (tmp_path / "gpu_workflow.txt").read_text()


def test_drawn_study_is_the_published_one(tmp_path):
    """Would catch a configuration that the workflow refuses, or experiments that are missing."""
    setting = SimpleNamespace(epochs=2, threads=16)
    path = tmp_path / "drawn.yaml"
    path.write_text(yaml.safe_dump(gpu_study.drawn_study(setting)))
    study, published = (gpu_study.study_of(files) for files in ([path], []))
    assert set(study.experiments) >= set(published.experiments) - {
        name for name in published.experiments if name.startswith("imagenet")
    }
    assert gpu_study.counts(study) == {"drawn_birds": 11_800}
    assert {entry["epochs"] for entry in study.experiments.values()} <= {0, 2}
