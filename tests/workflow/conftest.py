"""Whole runs of Snakemake on a tiny study, each in a copy of the project."""

import os
import shutil

import pytest
from filelock import FileLock
from tiny_study import Project


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny study, run to its end. Tests that change anything take a copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # All test processes share one: the first makes it, the others wait.
        shared = shared.parent
    folder, done = shared / "finished" / "project", shared / "finished.done"
    with FileLock(shared / "finished.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            Project.fresh(folder).snakemake()
            done.touch()
    return Project(folder)


@pytest.fixture
def project(finished, tmp_path):
    """A copy of the finished study, in another folder."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def fresh(tmp_path):
    """The project without results."""
    return Project.fresh(tmp_path / "project")
