"""The walks of docs/contributing.md and docs/follow-a-number.md, done as they are written there."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from tiny_study import PROJECT, TINY

BASE = "EPSHN_cosine_resnet18_sgd_aug"
# What trains or embeds; nothing that exists may do so again.
TRAINS = ("Train ", "Pretrain ", "Try ")


class Walk:
    """A walk in a copy of the finished tiny study.

    ``letter``: of its heading in docs/contributing.md.
    """

    def __init__(self, project, letter):
        self.project = project
        text = (PROJECT / "docs" / "contributing.md").read_text(encoding="utf-8")
        (self.text,) = re.findall(rf"^## {letter}: .*?(?=^## )", text, re.MULTILINE | re.DOTALL)
        self.config = [TINY]

    def blocks(self, language):
        """The walk's fenced blocks in a language, without their indentation."""
        found = re.findall(
            rf"^( *)```{language}\n(.*?)^\1```$", self.text, re.MULTILINE | re.DOTALL
        )
        return [textwrap.dedent(block) for _, block in found]

    def write_new_files(self, *languages):
        """Write the files that the walk says to write, from its first blocks of these languages."""
        places = re.findall(r"Write `([^`]+)`", self.text)
        for place, language in zip(places, languages, strict=True):
            (self.project.folder / place).write_text(self.blocks(language)[0])

    def insert(self, name, after, block):
        """Put a block after the line that begins with ``after``, indented as its surroundings."""
        path = self.project.folder / name
        lines = path.read_text().splitlines(keepends=True)
        (place,) = (i for i, line in enumerate(lines) if line.strip().startswith(after))
        indent = re.match(" *", lines[place + 1]).group()
        lines[place + 1 : place + 1] = textwrap.indent(block, indent).splitlines(keepends=True)
        path.write_text("".join(lines))

    def add_experiment(self):
        """Put the walk's experiment into a configuration of its own; returns its name."""
        said = yaml.safe_load(self.blocks("yaml")[0])
        (name,) = said["experiments"]
        assert said["only"] == [BASE, name]
        only = yaml.safe_load((PROJECT / TINY).read_text())["only"]
        more = {"only": [*only, name], "experiments": said["experiments"]}
        (self.project.folder / "try.yaml").write_text(yaml.safe_dump(more))
        self.config = [TINY, "try.yaml"]
        return name

    def planned(self):
        return self.project.planned("--configfile", *self.config, config=None)

    def run(self, *targets):
        self.project.snakemake(*targets, "--configfile", *self.config, config=None)

    def table(self, name):
        return pd.read_csv(self.project.result(name))


def check_new_experiment(walk, name):
    """The walk's experiment, and nothing that exists, trains; its page and its row appear."""
    planned = walk.planned()
    trained = [job for job in planned if job.startswith(TRAINS)]
    assert [job for job in trained if name in job] == [
        f"Train {name} (all_classes, seed 42)",
        f"Train {name} (limited_classes, seed 42)",
    ]
    # A backbone that is new needs an initializer of its own.
    assert not [job for job in trained if name not in job and "resnet" in job]
    walk.run()
    assert name in walk.table("comparison/experiments.csv")["experiment"].tolist()
    assert walk.project.result(f"experiments/{name}/report.html").stat().st_size > 1000
    assert walk.planned() == []


def test_backbone(project):
    """Would catch a backbone that needs code, trains others again, or fails in a step of the study."""
    walk = Walk(project, "A")
    check_new_experiment(walk, walk.add_experiment())


def test_loss(project):
    """Would catch a loss that needs more than a module and a line, or trains others again."""
    walk = Walk(project, "B")
    walk.write_new_files("python")
    line = walk.blocks("python")[1]
    walk.insert("workflow/scripts/dmlstudy/core/registry.py", '"loss": {', line)
    check_new_experiment(walk, walk.add_experiment())


def test_metric(project):
    """Would catch a metric that needs more than three files, trains, or reaches no main table."""
    walk = Walk(project, "C")
    summarise, metric, hits = walk.blocks("python")
    folder = "workflow/scripts/dmlstudy/evaluate"
    walk.insert(f"{folder}/evaluation.py", "result = {", summarise)
    walk.insert(f"{folder}/study_metrics.py", "METRICS = {", metric)
    project.edit(
        f"{folder}/study_metrics.py",
        '    if answer == "precision_at_1":\n',
        textwrap.indent(hits, "    ") + '    if answer == "precision_at_1":\n',
    )
    walk.insert(f"{folder}/comparison.py", "COLUMNS = (", '"mean_similarity",\n')
    planned = walk.planned()
    assert f"Evaluate {BASE}" in planned
    assert not [job for job in planned if job.startswith(TRAINS)]
    walk.run("results/tiny/comparison/experiments.csv")
    found = walk.table("comparison/experiments.csv").set_index("experiment")["mean_similarity"]
    queries = walk.table(f"experiments/{BASE}/seed42/all_classes/queries.csv")
    assert found[BASE] == pytest.approx(queries["similarity"].mean(), abs=1e-5)
    summary = walk.table(f"experiments/{BASE}/summary.csv").set_index("metric")
    assert summary["low"]["mean_similarity"] < summary["high"]["mean_similarity"]


def test_section(project):
    """Would catch a section that needs more than three files, or rebuilds more than reports."""
    walk = Walk(project, "D")
    walk.write_new_files("python", "html")
    outline = "workflow/scripts/dmlstudy/pages/outline.py"
    walk.insert(outline, "from dmlstudy.pages.sections import (", "similarity,\n")
    walk.insert(outline, "SECTIONS = (", walk.blocks("python")[1])
    planned = walk.planned()
    assert planned
    assert all(job.startswith("Build the report of ") for job in planned)
    page = f"experiments/{BASE}/report.html"
    walk.run(f"results/tiny/{page}")
    text = project.result(page).read_text()
    assert '<a href="#similarity">Similarity</a>' in text
    assert '<section id="similarity">' in text
    assert text.count('id="similarity-table"') == 1


def test_following_a_number(finished):
    """Would catch a step that does not run, or whose numbers do not lead from table to embedding."""
    text = (PROJECT / "docs" / "follow-a-number.md").read_text(encoding="utf-8")
    names, *steps = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(steps) == 5
    names = re.sub(r"^results=.*", "results=results/tiny", names, flags=re.MULTILINE)
    outputs = []
    for step in steps:
        step = step.replace("drawn_birds", "tiny_birds")
        done = subprocess.run(
            ["bash", "-ec", names + step],
            cwd=finished.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, step + done.stderr
        outputs.append(done.stdout)
    name = re.search(r"^experiment=(\S+)$", names, re.MULTILINE).group(1)
    table = pd.read_csv(finished.result("comparison/experiments.csv"), index_col="experiment")
    value = table["precision_at_1"][name]
    # Five times the same number, or what it is made of.
    for output, pattern in (
        (outputs[0], r"^precision_at_1 +(\S+)$"),
        (outputs[1], r"^precision_at_1,([^,]+),"),
        (outputs[2], r'"precision_at_1": ([^,]+),'),
        (outputs[3], r"^precision@1: (\S+) of"),
    ):
        (found,) = re.findall(pattern, output, re.MULTILINE)
        assert float(found) == pytest.approx(value, abs=1e-6)
    pairs = re.findall(r"^\w+: (\S+) in queries.csv: (\S+)$", outputs[4], re.MULTILINE)
    assert len(pairs) == 2
    for recomputed, stored in np.array(pairs, dtype=float):
        assert recomputed == pytest.approx(stored, abs=2e-6)
    photographs = [finished.folder / line.split()[-1] for line in outputs[4].splitlines()[2:]]
    assert len(photographs) == 2
    assert all(path.exists() for path in photographs)
