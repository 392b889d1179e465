"""Checks of command-line options whose type alone does not say what is allowed.

All raise StudyError, which names the option, its value and what would be right. Programs that a person
calls check all options before they compute or write anything.
"""

import math
import os
from pathlib import Path

from dmlstudy.core.files import StudyError


def check_number(option, value, *, least=None, most=None, above=None):
    """Check that a number is finite, and in ``least`` … ``most`` or larger than ``above``."""
    limits = [
        f"{words} {limit:g}"
        for words, limit in (("at least", least), ("above", above), ("at most", most))
        if limit is not None
    ]
    if (
        not math.isfinite(value)
        or (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
    ):
        kind = "a whole number" if isinstance(value, int) else "a finite number"
        wanted = f"{kind}, {' and '.join(limits)}" if limits else kind
        raise StudyError(f"{option} {value}: must be {wanted}")


def check_input(option, path, *, folder=False):
    """Check that a file (or ``folder``) is there and can be read."""
    path, kind = Path(path), "folder" if folder else "file"
    if not (path.is_dir() if folder else path.is_file()):
        there = path.exists()
        other = "is a folder, not a file" if path.is_dir() else f"is not a {kind}"
        raise StudyError(f"{option} {path}: {other if there else f'no such {kind}'}")
    if not os.access(path, os.R_OK | os.X_OK if folder else os.R_OK):
        raise StudyError(f"{option} {path}: this {kind} cannot be read; change its permissions")


def check_output(option, path, *, begins=None, holds="", folder=False):
    """Check that a file (or ``folder``) can be written, and that it replaces nothing else.

    ``begins``: how the first line of an existing file must begin, so that it may be written over;
    ``holds``: what such a file holds, in words. None: any file may be replaced.
    """
    path = Path(path)
    if folder and path.exists() and not path.is_dir():
        raise StudyError(f"{option} {path}: this is a file; give the path of a folder")
    if not folder and path.is_dir():
        raise StudyError(f"{option} {path}: this is a folder; give the path of a file in it")
    if not folder and path.exists():
        if not path.is_file():
            raise StudyError(f"{option} {path}: this is no regular file; give another path")
        if begins is not None and path.stat().st_size and not _first_line(path).startswith(begins):
            raise StudyError(
                f"{option} {path}: this file exists and is not {holds}, so it is not written over; "
                "remove it, or give another path"
            )
    # What is written is renamed to the path, so its folder must be writable.
    for parent in path.absolute().parents:
        if parent.exists():
            if not parent.is_dir():
                raise StudyError(f"{option} {path}: {parent} is a file, not a folder")
            if not os.access(parent, os.W_OK | os.X_OK):
                raise StudyError(f"{option} {path}: the folder {parent} is not writable")
            break


def _first_line(path):
    try:
        with open(path, "rb") as stream:
            return stream.readline(10_000).decode("utf-8", "replace")
    except OSError:
        return ""
