"""`make quick` on drawn photographs, through the real workflow: the smallest set that has a page."""

import html
import os
import re
import shlex
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from loopback import Server
from PIL import Image
from safetensors.torch import save_file
from tiny_study import PATH

CLASSES = ("hat", "robin", "wren")
BACKBONES = "timm/test_vit=weights/vit.safetensors timm/test_convnext=weights/convnext.safetensors"
CHANGES = {
    "device": "cpu",
    "protocol": {"image_size": 32, "precision": "float32", "compute_threads": 1, "unseen_draws": 1},
    "evaluation": {"answers": [{"kind": "class_mean"}, {"kind": "lda"}], "bootstrap_draws": 100},
}


def run_quick(project, *options, ok=True):
    """Run the program in the project's folder; stdout and stderr as one text."""
    command = [sys.executable, "workflow/scripts/quick.py", "--cores", "2", *options]
    done = subprocess.run(
        command,
        cwd=project.folder,
        env={**os.environ, "PATH": PATH},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if bool(done.returncode) == ok:
        pytest.fail(done.stdout[-6000:])
    return done.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """(project, what the program printed): three classes of two photographs, two tiny networks."""
    from tiny_study import Project

    project = Project.fresh(tmp_path_factory.mktemp("quick") / "project")
    for class_id, name in enumerate(CLASSES):
        folder = project.folder / "my photos" / name
        folder.mkdir(parents=True)
        for index in range(2):
            rng = np.random.default_rng([class_id, index])
            pixels = rng.integers(0, 60, (36, 40, 3), dtype=np.uint8)
            pixels[..., class_id] += 150
            Image.fromarray(pixels).save(folder / f"{index}.png")
    (project.folder / "weights").mkdir()
    torch.manual_seed(0)
    for name in ("vit", "convnext"):
        state = timm.create_model(f"test_{name}").state_dict()
        save_file(state, project.folder / "weights" / f"{name}.safetensors")
    (project.folder / "my.yaml").write_text(yaml.safe_dump(CHANGES))
    options = ("--photos", "my photos", "--config", "my.yaml", "--backbones", BACKBONES)
    return project, run_quick(project, *options), options


def test_smallest_set_has_a_page_that_concludes_nothing(quick):
    """Would catch a set of six photographs that stops the study, or a winner among two answers."""
    project, printed, _ = quick
    results = project.folder / "results/quick/my_photos"
    page = (results / "index.html").read_text(encoding="utf-8")
    answers = (results / "combinations/answers.txt").read_text(encoding="utf-8")
    assert "No combination can be recommended" in page
    assert "6 photographs of 3 classes" in page
    assert answers in printed
    assert "6 photographs of 3 classes; at a time, 1 class plays a new one" in printed
    assert re.search(r"done in \d+ s\n\Z", printed)


def test_only_what_the_page_needs_is_made(quick):
    """Would catch heat maps, reports, a model per draw, or a second set of features."""
    project, _, _ = quick
    results = project.folder / "results/quick/my_photos"
    made = {path.name for path in results.rglob("*") if path.is_file()}
    assert not made & {"report.html", "map.csv", "queries.csv", "health.csv"}
    assert len(list(results.rglob("model.pt"))) == len(list(results.rglob("features.npy"))) == 2
    assert {path.parent.name for path in results.rglob("model.pt")} == {"all_classes"}


def test_tables_are_those_of_the_ways_of_answering(quick):
    """Would catch an accuracy that is not the one of the experiment's own table."""
    project, _, _ = quick
    results = project.folder / "results/quick/my_photos"
    table = pd.read_csv(results / "combinations/accuracy.csv")
    assert len(table["experiment"].unique()) == 2
    assert set(table["answer"]) == {"nearest", "class_mean", "lda"}
    columns = {
        "all_classes": "precision_at_1",
        "seen_classes": "precision_at_1_seen_classes",
        "unseen_classes": "precision_at_1_unseen_classes",
    }
    whole = table[table["images_per_class"] == "all"]
    for row in whole[whole["figure"] != "harmonic_mean"].itertuples():
        own = pd.read_csv(results / f"experiments/{row.experiment}/answers.csv")
        own = own[own["answer"] == row.answer]
        limited = own["class_set"] != "all_classes"
        own = own[limited != (row.figure == "all_classes")]
        assert row.value == pytest.approx(own[columns[row.figure]].mean(), abs=1e-5)
    strangers = pd.read_csv(results / "combinations/strangers.csv").set_index("answer")
    judged = pd.concat(
        pd.read_csv(path) for path in results.glob("experiments/*/rejection_thresholds.csv")
    )
    judged = judged[(judged["way"] == "held_out_classes") & (judged["accepted_share"] == 0.95)]
    expected = 1 - judged[judged["model"] == judged["class_set"]]["accepted_unknown_classes"].mean()
    assert strangers.loc["nearest", "called_unknown"].mean() == pytest.approx(expected, abs=1e-5)


def test_commands_of_the_page_work(quick):
    """Would catch a command for a run or a configuration that does not exist."""
    project, _, _ = quick
    page = (project.folder / "results/quick/my_photos/index.html").read_text(encoding="utf-8")
    index = re.search(r"snakemake --cores all (\S+) --configfile (\S+) (\S+)</pre>", page)
    project.snakemake(index[1], "--configfile", index[2], index[3], config=None)
    name = re.search(r"python (workflow/scripts/name_photos.py --run .*?) photo.jpg", page)[1]
    named = subprocess.run(
        [sys.executable, *shlex.split(html.unescape(name)), "my photos/hat/0.png"],
        cwd=project.folder,
        text=True,
        capture_output=True,
    )
    assert "similarity" in named.stdout, named.stderr
    training = "results/quick/my_photos/combinations/train.yaml"
    planned = project.planned(config=training)
    assert any(job.startswith("Train the head of ArcFace_head_on_frozen") for job in planned)


def test_again_nothing_is_computed(quick):
    """Would catch a configuration that is written anew each time and runs everything again."""
    project, _, options = quick
    printed = run_quick(project, *options)
    assert printed.count("Nothing to be done") == 2


def test_weights_that_cannot_be_had_are_named_with_what_to_do(quick):
    """Would catch other networks that are taken silently, and hours until somebody hears of it."""
    project, _, _ = quick
    server = Server(b"")
    try:
        changes = {
            **CHANGES,
            "initializers": {
                "imagenet": {"weights": {"torchvision/mobilenet_v2": f"{server.url}/none.pth"}}
            },
        }
        (project.folder / "no.yaml").write_text(yaml.safe_dump(changes))
        there = "timm/test_vit=weights/vit.safetensors"
        printed = run_quick(
            project, "--photos", "my photos", "--name", "other", "--config", "no.yaml",
            "--backbones", f"{there} torchvision/mobilenet_v2", ok=False,
        )  # fmt: skip
    finally:
        server.close()
    end = printed[printed.rindex("error: ") :]
    assert "the weights of torchvision/mobilenet_v2 could not be had" in end
    start = "make quick PHOTOS='my photos' CONFIG=no.yaml NAME=other BACKBONES="
    assert f"say where: {start}'{there} torchvision/mobilenet_v2=path/to/file.pth'" in end
    assert f"To go on without them: {start}{there}\n" in end
    assert not (project.folder / "results/quick/other/features").exists()


def test_a_study_that_trains_has_no_such_page(quick):
    """Would catch an empty page of a study without features that are not fitted."""
    project, _, _ = quick
    text = project.snakemake("quick", "--dry-run", config="config/demo.yaml", ok=False)
    assert "quick: no experiment has backbone_trains: false, epochs: 0 and head none" in text
