"""Files are written atomically, and errors of the disk are clear messages."""

import errno
import os
import socket
import subprocess
import sys
import time

import pytest

from dmlstudy.core.files import (
    StudyError,
    atomic_path,
    refuse_future,
    refuse_read_only,
    temporary_path,
    write_text,
)


@pytest.fixture(scope="module")
def dead():
    """Id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_leftovers_of_dead_processes_are_removed(tmp_path, dead):
    """Would catch temporary files of killed processes that stay, or of running ones that are removed."""
    here = socket.gethostname().partition(".")[0]
    (tmp_path / f".table.csv.{here}-{dead}.tmp").write_text("half")
    folder = tmp_path / f".table.csv.{here}-{os.getpid()}.tmp"
    folder.mkdir()
    (folder / "half").touch()
    others = {
        # init, which always runs.
        f".table.csv.{here}-1.tmp",
        # It may still run on another machine.
        f".table.csv.other-{dead}.tmp",
        f".other.csv.{here}-{dead}.tmp",
        "table.csv.tmp",
    }
    for name in others:
        (tmp_path / name).touch()
    write_text(tmp_path / "table.csv", "whole")
    assert (tmp_path / "table.csv").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", *others}


def test_names_that_look_like_patterns(tmp_path, dead):
    """Would catch names with brackets, which a glob would take for a pattern."""
    here = socket.gethostname().partition(".")[0]
    (tmp_path / f".[ab].{here}-{dead}.tmp").touch()
    (tmp_path / f".a.{here}-{dead}.tmp").touch()
    temporary_path(tmp_path / "[ab]")
    assert [path.name for path in tmp_path.iterdir()] == [f".a.{here}-{dead}.tmp"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_disk_that_takes_nothing_is_explained(tmp_path, number, words):
    """Would catch a traceback that does not name the file, or an incomplete file that stays."""
    path = tmp_path / "table.csv"
    path.write_text("before")

    def write():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError(number, os.strerror(number))

    with pytest.raises(StudyError) as caught:
        write()
    assert str(caught.value) == f"{path}: cannot be written: {words}"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_what_they_are(tmp_path):
    """Would catch a missing input reported as a full disk."""

    def write():
        with atomic_path(tmp_path / "table.csv"):
            (tmp_path / "missing").read_text()

    with pytest.raises(FileNotFoundError, match="missing"):
        write()


def test_files_of_the_future_are_named(tmp_path):
    """Would catch inputs from the future, noticed only after everything was computed."""
    names = ("manifest.csv", "class names.csv", "split.csv")
    paths = [tmp_path / name for name in names]
    for path in paths:
        path.touch()
    refuse_future(paths, tmp_path)
    for path in paths[:2]:
        os.utime(path, (time.time() + 3600,) * 2)
    with pytest.raises(StudyError) as caught:
        refuse_future(paths, tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{paths[0]}: its modification time is ")
    assert text.endswith(f"touch {paths[0]} '{paths[1]}'")
    assert not [path for path in tmp_path.iterdir() if path not in paths]


def test_folder_that_can_only_be_read(tmp_path, monkeypatch):
    """Would catch a new folder inside a read-only one."""
    refuse_read_only(tmp_path / "results" / "tiny")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(StudyError, match="not writable"):
        refuse_read_only(tmp_path / "results" / "tiny")
    (tmp_path / "results").mkdir()
    refuse_read_only(tmp_path / "results" / "tiny")
