"""The last lines of a failed run: the sentence alone, in full, and what to do next."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_study import PROJECT

SETTINGS = """\
results_dir: results/tiny
dataset: {name: mine, format: folders, source: pics, classes: null, md5: null, bytes: null}
protocol: {unseen_classes: 1, image_size: 32, epochs: 1, batch_size: 8, compute_threads: 1,
           test_share: 0.25, precision: float32}
only: [EPSHN_cosine_resnet18_sgd_aug]
untrained: {backbones: []}
substitute_initializers: {imagenet: scratch}
device: cpu
tracking: {mode: disabled}
"""
NEXT = "Next: correct this, then give the same command again."
DUPLICATE = re.compile(
    r"error: 1 to fix in mine: the same file in two classes: hat/0\.jpg .*shoe/copy\.jpg.*problems\.csv\n"
    r"\nNext: correct this, then give the same command again\. Finished jobs are not repeated\.\n\Z"
)


@pytest.fixture
def images(fresh):
    """The project with drawn images, one of which lies in two classes."""
    for number, name in enumerate(("hat", "shoe", "dress")):
        folder = fresh.folder / "pics" / name
        folder.mkdir(parents=True)
        for index in range(6):
            rng = np.random.default_rng([number, index])
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.jpg")
    shutil.copy(fresh.folder / "pics/hat/0.jpg", fresh.folder / "pics/shoe/copy.jpg")
    (fresh.folder / "my.yaml").write_text(SETTINGS)
    return fresh


@pytest.mark.parametrize("options", [(), ("--quiet", "all")])
def test_error_of_a_job_comes_last(images, options):
    """Would catch a sentence among shell commands, Snakemake's exceptions and its farewell."""
    text = images.snakemake("check_data", *options, config="my.yaml", ok=False)
    assert DUPLICATE.search(text)


def test_errors_of_several_jobs_come_last_each_once(images):
    """Would catch one error that hides the other ones, or a traceback without its log."""
    for part in ("thumbnails", "pack"):
        program = {"thumbnails": "make_thumbnails.py", "pack": "split.py"}[part]
        path = images.folder / "workflow/scripts" / program
        error = "StudyError('no thumbnail today')" if part == "thumbnails" else "KeyError('seven')"
        text = path.read_text().replace(
            "    def work():\n",
            "    def work():\n        from dmlstudy.core.files import StudyError\n"
            f"        raise {error}\n",
        )
        path.write_text(text)
    ran = images.snakemake(
        "results/tiny/data/mine/pack_shorter32_thumbnails.webp",
        "results/tiny/data/mine/split.csv",
        config="my.yaml",
        ok=False,
    )
    end = ran[ran.rindex("did not complete successfully.") :]
    assert end.count("error: no thumbnail today") == 1
    assert end.count("error: an unexpected error: KeyError: 'seven'") == 1
    assert "last lines of results/tiny/logs/data/mine/split.log:" in end
    assert "Split mine into training and test images" in end
    assert end.splitlines()[-1].startswith("Next: correct these errors")


def test_error_in_the_configuration_comes_last(images):
    """Would catch a sentence above the places in the rule files where it was raised."""
    path = images.folder / "my.yaml"
    path.write_text(SETTINGS.replace("epochs: 1", "epochs: many"))
    lines = images.snakemake("--dry-run", config="my.yaml", ok=False).splitlines()
    assert lines[-3].startswith("error: ")
    assert "my.yaml: protocol.epochs: is 'many'" in lines[-3]
    assert lines[-1] == f"{NEXT} No job has been started."


def test_success_adds_no_lines(images):
    """Would catch advice after a run that did not fail."""
    (images.folder / "pics/shoe/copy.jpg").unlink()
    text = images.snakemake("check_data", config="my.yaml")
    assert "Next:" not in text
    assert "error:" not in text


def test_make_adds_nothing_below(images):
    """Would catch make's own line below the sentence, or a failure that make reports as a success."""
    for name in ("Makefile", "envs"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, images.folder / name)
    programs = images.folder / "venv/bin"
    programs.mkdir(parents=True)
    for name, command in (("python", ""), ("snakemake", " -m snakemake")):
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable}{command} "$@"\n')
        (programs / name).chmod(0o755)
    (programs.parent / ".installed-cpu").touch()
    done = subprocess.run(
        ["make", "check-data", "CONFIG=my.yaml", "VENV=venv", "KIND=cpu"],
        cwd=images.folder,
        env={**os.environ, "PATH": os.defpath},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode
    assert DUPLICATE.search(done.stdout), done.stdout[-2000:]
