"""A study that is trained in short calls elsewhere gives the tables of one that is trained here."""

import json
import os
import shutil
import subprocess
import sys

import pandas as pd
import yaml
from tiny_study import TINY

from dmlstudy.elsewhere import job as jobs
from dmlstudy.elsewhere import machine

BASELINE, UNTRAINED = "EPSHN_cosine_resnet18_sgd_aug", "other_species_resnet18"
CLASSIFIER = "EPSHN_cosine_resnet18_classifier_sgd_aug"
PROGRAM = "workflow/scripts/train_elsewhere.py"
KIB = 1024


def program(project, *arguments, ok=True):
    """Run the program in the project; what it printed."""
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=project.folder, capture_output=True, text=True, check=False, env=os.environ
    )
    assert (done.returncode == 0) == ok, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


class UntilStored(machine.Clock):
    """The time of a call that is used up once a training's state and its curve so far are stored.

    The curve is written last: a call that ended between the two would report no epoch.
    """

    def __init__(self, store):
        super().__init__(600)
        self.store, self.over = store, False

    def left(self):
        stored = self.store.glob("results/*/*/*/state/training.pt")
        self.over = self.over or any((path.parent / "curves.csv").exists() for path in stored)
        return 0 if self.over else super().left()


def tables(project):
    folder = project.result("comparison")
    found = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    # Times and memory differ.
    return {name: content for name, content in found.items() if not name.endswith("costs.csv")}


def test_interrupted_trainings_elsewhere_give_the_tables_of_a_study_here(project, tmp_path):
    """Would catch another recipe, order of images or starting weights there, lost state, and rows that train again."""

    def change(config):
        config["protocol"]["epochs"] = 6
        config["only"] = [BASELINE, CLASSIFIER]

    shutil.rmtree(project.result("experiments"))
    shutil.rmtree(project.result("comparison"))
    # As if the study had not pretrained this one: it is left out, with the reason.
    shutil.rmtree(project.result("initializers/classifier"))
    project.change_yaml(TINY, change)
    here = project.copy(tmp_path / "here")
    here.change_yaml(TINY, lambda config: config.update(only=[BASELINE]))
    here.snakemake("evaluation")

    text = program(
        project, "prepare", "--configfile", TINY, "--as-they-are", "--wheel", "--part-mib", 24,
        "--out", "elsewhere", "--cores", 1,
    )  # fmt: skip
    assert f"left out: {CLASSIFIER}: results/tiny/initializers/classifier" in text
    carried = project.folder / "elsewhere" / "carried"
    parts = sorted(carried.glob("part_*"))
    assert len(parts) > 1
    assert all(
        sum(path.stat().st_size for path in part.iterdir()) < 24.1 * KIB**2 for part in parts
    )
    job = jobs.read(project.folder / "elsewhere")
    order = [(run["experiment"], run["class_set"]) for run in job["runs"]]
    both = ("all_classes", "limited_classes")
    assert order == [(name, one) for name in (BASELINE, UNTRAINED) for one in both]

    # The first call brings one part.
    store, back = tmp_path / "store", tmp_path / "back"
    text = program(project, "run", "--carried", parts[0], "--store", store, "--back", back / "1")
    assert "still missing: carried.2" in text
    # The second call ends in the middle of a training. It needs no configuration, and only these modules.
    scripts = project.folder / "workflow" / "scripts"
    options = {"part_bytes": 4 * KIB**2, "total_bytes": 60 * KIB**2, "models": True}
    with_programs = (machine.PROGRAMS, jobs.PROGRAMS)
    machine.PROGRAMS = jobs.PROGRAMS = scripts
    try:
        summary = machine.run(store, parts[1:], back / "2", UntilStored(store), **options)
    finally:
        machine.PROGRAMS, jobs.PROGRAMS = with_programs
    states = [one["state"] for one in summary["runs"]]
    assert states == ["unfinished", "waiting", "waiting", "waiting"]
    assert 0 < summary["runs"][0]["epochs"] < 6
    text = program(project, "collect", "--out", "elsewhere", "--back", back / "2", ok=False)
    assert "no experiment is complete yet" in text
    assert "Traceback" not in text
    # The third goes on with it. There is room for the results, and for one of four models.
    text = program(
        project, "run", "--store", store, "--back", back / "3", "--back-part-mib", 8,
        "--back-mib", 50, "--least-seconds", 0,
    )  # fmt: skip
    log = (store / "logs" / f"{BASELINE}_seed42_all_classes.log").read_text()
    assert "continuing after epoch" in log
    assert text.count("finished, 6 of 6 epochs") == 2
    assert "still there: " in text
    sizes = [path.stat().st_size for path in (back / "3").iterdir()]
    assert max(sizes) <= 8 * KIB**2
    assert sum(sizes) <= 50 * KIB**2

    text = program(project, "collect", "--out", "elsewhere", "--back", back / "2", back / "3")
    assert "4 of 4 runs are in results/tiny" in text
    assert "3 of them have no model.pt" in text
    collected = yaml.safe_load((project.folder / "elsewhere" / "collected.yaml").read_text())
    assert collected == {"only": [BASELINE], "untrained": {"backbones": ["resnet18"]}}
    files = ["--configfile", TINY, "elsewhere/collected.yaml"]
    planned = project.planned("evaluation", *files, config=None)
    assert not [
        message for message in planned if message.startswith(("Train", "Decode", "Pretrain"))
    ]
    # A recipe that changes later is trained again, as anywhere.
    later = project.planned("evaluation", *files, "--config", "protocol={epochs: 7}", config=None)
    assert sum(message.startswith(f"Train {BASELINE}") for message in later) == 2
    project.snakemake("evaluation", *files, config=None)
    assert tables(project) == tables(here)
    for run in job["runs"]:
        name = jobs.place(run)
        assert (store / "results" / name / "model.pt").is_file()
        one, other = (
            pd.read_csv(place.result(f"experiments/{name}/curves.csv")).drop(columns="seconds")
            for place in (project, here)
        )
        pd.testing.assert_frame_equal(one, other)

    # Results of other trainings, and other results of this one, are refused.
    index = back / "3" / "back_2.json"
    other = json.loads(index.read_text()) | {"job": "0" * 16}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "back_2.json").write_text(json.dumps(other))
    text = program(project, "collect", "--out", "elsewhere", "--back", tmp_path / "other", ok=False)
    assert "belongs to other trainings" in text
    project.result(f"experiments/{BASELINE}/seed42/all_classes/curves.csv").write_text("epoch\n6\n")
    text = program(project, "collect", "--out", "elsewhere", "--back", back / "3", ok=False)
    assert "other results are there already" in text
