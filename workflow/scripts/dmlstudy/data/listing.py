"""What a data set lists: its classes and images, and what lies in its folder beside them."""

import inspect
import os
import stat
from pathlib import Path

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.class_names import composed, look, refuse_unprintable
from dmlstudy.data.image_files import LeftOut, find_image_files, path_order


def list_rows(folder, data_format, *, classes=None, csv=None, own=None):
    """List a data set without opening its images: (class names, rows sorted by class and path).

    ``classes``: expected number of classes, or None; ``csv``: name of the table, for the format that
    reads one; ``own``: a path in the study's results, which are not listed. Rows: see `formats.cub.build`.
    Class names are in Unicode's composed form. Raises StudyError for inconsistent tables, another number
    of classes, or two classes with the same name.
    """
    build = registry.load("format", data_format)
    options = {} if csv is None else {"csv": csv}
    if "own" in inspect.signature(build).parameters:
        options["own"] = own
    try:
        names, rows = build(folder, **options)
    except OSError as error:
        raise StudyError(f"{folder}: cannot be listed: {error}") from None
    for text in [*names, *(row["path"] for row in rows)]:
        refuse_unprintable(text, folder)
    if classes is not None and len(names) != classes:
        raise StudyError(f"{folder}: {len(names)} classes, but dataset.classes says {classes}")
    _refuse_equal_names(names, folder)
    rows = [{**row, "path": _on_disk(folder, row["path"])} for row in rows]
    rows.sort(key=lambda row: (row["class_id"], *path_order(row["path"])))
    return [composed(name) for name in names], rows


def _refuse_equal_names(names, folder):
    """Raise StudyError for two classes of one name, also in two Unicode spellings of it."""
    first = {}
    for name in names:
        other = first.setdefault(composed(name), name)
        if other is not name and other == name:
            raise StudyError(f"{folder}: two classes have the name {name!r}")
        if other != name:
            raise StudyError(
                f"{folder}: two classes have one name in two Unicode spellings: {other!a} and "
                f"{name!a}, both shown as {composed(name)}; give both the same spelling, or put their "
                "images together"
            )


def _on_disk(folder, path):
    """The spelling of a path that the disk has; the path itself if nothing is there."""
    if path.isascii() or os.path.lexists(os.path.join(folder, path)):
        return path
    place, spelled = Path(folder), []
    for part in path.split("/"):
        try:
            found = [name for name in os.listdir(place) if composed(name) == composed(part)]
        except OSError:
            return path
        if not found:
            return path
        spelled.append(part if part in found else min(found))
        place /= spelled[-1]
    return "/".join(spelled)


def refuse_special_file(path):
    """Raise StudyError for a pipe, a socket or a device: opening it may wait forever."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        # What opens the file says what is wrong.
        return
    if not stat.S_ISREG(mode):
        raise StudyError(f"{path}: is not a file of an image but a folder, a pipe or a device")


def similar_names(names):
    """Pairs of class names that differ only in case, blanks or invisible characters."""
    first, found = {}, []
    for name in names:
        other = first.setdefault(look(name), name)
        if other != name:
            found.append((other, name))
    return found


def left_out(folder, data_format, rows, *, own=None, by_content=False):
    """What lies in a data set's folder and is not listed: a list of `LeftOut`.

    ``rows``: what is listed, see `list_rows`; ``by_content``: see `image_files.find_image_files`.
    """
    of_format = getattr(inspect.getmodule(registry.load("format", data_format)), "left_out", None)
    if of_format:
        return of_format(folder, own, by_content=by_content)
    images, left = find_image_files(folder, by_content=by_content)
    listed = {row["path"] for row in rows}
    results = None if own is None else os.path.realpath(own)
    root = os.path.realpath(folder)
    unlisted = {}
    for path in images:
        top = os.path.join(root, path.split("/")[0])
        if path not in listed and not (results and results.startswith(top + os.sep)):
            unlisted.setdefault(os.path.dirname(path) or ".", []).append(path)
    return left + [
        LeftOut(place, f"holds {len(paths)} image(s) that no table lists: {first_of(paths, 10)}")
        for place, paths in unlisted.items()
    ]
