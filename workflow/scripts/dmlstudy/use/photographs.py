"""Photographs given on a command line, as files and folders."""

import os
import unicodedata
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats.folders import EXTENSIONS

# The default of `dataset.max_pixels`.
MAX_PIXELS = 100_000_000


def find_photos(places):
    """Find the photographs in ``places``, a list of files and folders; each file is returned once.

    Folders are searched recursively, and their files sorted by path, as in a data set. Hidden files and
    files without the extension of an image are ignored. Returns (paths, problems); a problem is a
    sentence about a place that does not exist or has no photographs.
    """
    found, problems = {}, []
    for place in map(Path, places):
        if place.is_file():
            found[place] = None
        elif not place.is_dir():
            problems.append(f"{place}: no such file or folder")
        else:
            inside = sorted(
                (
                    path
                    for path in place.rglob("*")
                    if path.suffix.lower() in EXTENSIONS
                    and path.is_file()
                    and not any(part.startswith(".") for part in path.relative_to(place).parts)
                ),
                key=lambda path: path.relative_to(place).as_posix(),
            )
            if not inside:
                known = ", ".join(sorted(EXTENSIONS))
                problems.append(
                    f"{place}: no photographs in this folder (known extensions: {known})"
                )
            found.update(dict.fromkeys(inside))
    return list(found), problems


def stored_path(path):
    """The absolute path of a photograph as one line of valid UTF-8, other characters escaped."""
    text = os.fsencode(Path(path).resolve()).decode("utf-8", "backslashreplace")
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text)


def class_name_of(text):
    """A class name from the command line, without surrounding blanks.

    Raises StudyError for an empty name, or one that does not fit into one line of a table.
    """
    name = text.strip()
    if not name or not name.isprintable():
        raise StudyError(
            f"--name {text!r}: a class name must be one line of printable characters, not empty"
        )
    return name
