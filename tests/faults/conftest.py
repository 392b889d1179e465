"""Trainings to interrupt, and disks that are full or read-only."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from tiny_study import Project
from trainings import FAULTS, Training

from dmlstudy.data.dataset import make_class_set, make_split, write_csv
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.pack import write_pack

# If set, a skipped test is a failure.
REQUIRED = os.environ.get("DML_REQUIRE_FAULTS") == "1"


def pytest_configure(config):
    """Snakemake makes a temporary folder that it cannot remove where a test kills it."""
    config.may_stay = ("snakemake",)


@pytest.fixture(scope="session")
def warm():
    """A process that has already imported torch and the library; see warm.py."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("warm.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.stdin.close()
    process.wait()


@pytest.fixture(scope="session")
def material(tmp_path_factory):
    """Tables and packs of a few noise images whose colours differ by class."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(4)
    for class_id in range(4):
        class_folder = folder / "images" / f"class{class_id}"
        class_folder.mkdir(parents=True)
        colour = rng.integers(0, 200, 3)
        for index in range(6):
            pixels = colour + rng.integers(0, 56, (36, 40, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(class_folder / f"{index}.png")
    manifest = make_manifest(folder / "images", "folders", max_pixels=10**6)
    split = make_split(manifest, method="stratified", test_share=0.3, seed=1)
    write_csv(folder / "manifest.csv", manifest)
    write_csv(folder / "split.csv", split)
    write_csv(folder / "limited.csv", make_class_set(4, "limited", unseen=1))
    for resize in ("shorter35", "shorter32"):
        write_pack(folder / f"pack_{resize}", folder / "images", manifest, resize, max_pixels=10**6)
    return folder


@pytest.fixture
def training(warm, material, tmp_path):
    """training(name, program, **recipe): a `Training` in its own folder."""
    return lambda name="run", program="train", **recipe: Training(
        warm, material, tmp_path / name, program, **recipe
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A project that is ready for one training, and the outputs of that training: (project, files)."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "prepared" / "project", shared / "prepared.done"
    project = Project(folder)
    with FileLock(shared / "prepared.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            Project.fresh(folder, FAULTS).snakemake(
                "results/tiny/data/tiny_birds/pack_shorter35/pixels.bin",
                "results/tiny/data/tiny_birds/pack_shorter32/pixels.bin",
                "results/tiny/data/tiny_birds/class_sets/all_classes.csv",
                "results/tiny/data/tiny_birds/split.csv",
                config=FAULTS,
            )
            done.touch()
    return project


@pytest.fixture
def project(prepared, tmp_path):
    """A copy of the prepared project."""
    return prepared.copy(tmp_path / "project")


@contextlib.contextmanager
def mounted(folder, *arguments):
    """Mount a file system at ``folder``; skip the test if that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True)
    if done.returncode:
        reason = f"cannot mount a file system here (root can): {done.stderr.strip()}"
        assert not REQUIRED, reason
        pytest.skip(reason)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def mount():
    """mount(folder, *arguments): mount a file system there until the end of the test."""
    with contextlib.ExitStack() as stack:
        yield lambda folder, *arguments: stack.enter_context(mounted(folder, *arguments))
