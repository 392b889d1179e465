"""Photographs that somebody names on a command line: files, and folders of them."""

import os
import unicodedata
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats.folders import EXTENSIONS

# What `dataset.max_pixels` is where nothing else is said.
MAX_PIXELS = 100_000_000


def find_photos(places):
    """Photographs at ``places``, files as they are and folders searched to the bottom, each once.

    Those of a folder are sorted by path, the order in which a data set lists a class; hidden ones
    and files without a picture's extension are left out. Returns (paths, problems): a problem is a
    sentence about a place where there is none.
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
                problems.append(f"{place}: no photographs in this folder ({known})")
            found.update(dict.fromkeys(inside))
    return list(found), problems


def stored_path(path):
    """The full path of a photograph as text that one line of any UTF-8 file can hold."""
    text = os.fsencode(Path(path).resolve()).decode("utf-8", "backslashreplace")
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text)


def class_name_of(text):
    """A class name as somebody typed it, without blanks around it.

    Raises StudyError for one that is empty or could not stand in one line of a table.
    """
    name = text.strip()
    if not name or not name.isprintable():
        raise StudyError(
            f"--name {text!r}: a class name is one line of printable characters, at least one"
        )
    return name
