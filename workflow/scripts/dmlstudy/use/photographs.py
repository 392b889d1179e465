"""Photographs given on a command line, as files and folders."""

import logging
import os
import unicodedata
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.data.class_names import composed
from dmlstudy.data.image_files import EXTENSIONS, find_image_files

# The default of `dataset.max_pixels`.
MAX_PIXELS = 100_000_000


def find_photos(places):
    """Find the photographs in ``places``, a list of files and folders; each file is returned once.

    Folders are searched as the folder of a class is, see `image_files.find_image_files`, and their
    files sorted by path. Returns (paths, problems, left out). A problem is a sentence about a place that
    does not exist or has no photographs; what is left out is a sentence about a file or folder that is
    not read.
    """
    found, problems, left = {}, [], []
    for place in map(Path, places):
        try:
            place.stat()
        except FileNotFoundError:
            pass
        except OSError as error:
            # Such as a name that is too long, or a folder above it that must not be read.
            problems.append(f"{place}: cannot be read: {error.strerror}")
            continue
        if place.is_file():
            found[place] = None
        elif place.is_dir():
            try:
                inside, others = find_image_files(place, by_content=True)
            except StudyError as error:
                problems.append(str(error))
                continue
            left += [f"{place / one.path}: left out: {one.reason}" for one in others]
            if not inside:
                known = ", ".join(sorted(EXTENSIONS))
                problems.append(
                    f"{place}: no photographs in this folder (known extensions: {known})"
                )
            found.update(dict.fromkeys(place / path for path in inside))
        elif place.exists():
            problems.append(f"{place}: is neither a file nor a folder but a pipe or a device")
        else:
            problems.append(f"{place}: no such file or folder")
    return list(found), problems, left


def warn_of(left_out):
    """Log a warning for each of the sentences on what `find_photos` left out, and their number."""
    for sentence in left_out:
        logging.warning("%s", console.printable(sentence))
    if left_out:
        logging.warning("%d files and folders were left out", len(left_out))


def stored_path(path):
    """The absolute path of a photograph as one line of valid UTF-8, other characters escaped."""
    text = os.fsencode(Path(path).resolve()).decode("utf-8", "backslashreplace")
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) == "Cc" else c for c in text)


def class_name_of(text):
    """A class name from the command line, without surrounding blanks, in Unicode's composed form.

    Raises StudyError for an empty name, or one that does not fit into one line of a table.
    """
    name = composed(text.strip())
    if not name or not name.isprintable():
        raise StudyError(
            f"--name {text!r}: a class name must be one line of printable characters, not empty"
        )
    return name
