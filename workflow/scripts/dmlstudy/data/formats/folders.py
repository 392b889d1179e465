"""A folder of images per class."""

import os
import re
import stat

from dmlstudy.core.console import printable
from dmlstudy.core.files import StudyError
from dmlstudy.data.class_names import composed, in_order
from dmlstudy.data.image_files import (
    LeftOut,
    entries,
    find_image_files,
    is_image_file,
    status,
    why_not_file,
    why_not_folder,
)

# Names of folders for the parts of a split, which are not classes.
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
PART_WORDS = PARTS | {"trainset", "testset", "valset", "dev", "eval", "pred", "holdout", "predict"}
# A part of a data set holds at most this share of its images outside of its folders.
LOOSE = 0.05


def _level(folder, own, look_inside):
    """(class folders, left out) of one level; class folders are directory entries."""
    inner, left = [], []
    for entry in entries(folder):
        info = status(entry)
        if info is None or not stat.S_ISDIR(info.st_mode):
            reason = why_not_file(entry, info, look_inside)
            if info is not None and stat.S_ISREG(info.st_mode) and is_image_file(entry.name):
                reason = "lies beside the folders of the classes and belongs to none"
        elif own is not None and own.startswith(os.path.realpath(entry.path) + os.sep):
            reason = "holds the results of this study"
        else:
            reason = why_not_folder(entry, look_inside)
            if reason is None:
                inner.append(entry)
        if reason:
            left.append(LeftOut(entry.path, reason))
    return inner, left


def _classes(folder, own, look_inside=False):
    """(root, class folders, left out): steps into a single outer folder, as in many archives."""
    root, left, entered = os.fspath(folder), [], set()
    own = None if own is None else os.path.realpath(own)
    while True:
        info = os.stat(root)
        entered.add((info.st_dev, info.st_ino))
        inner, more = _level(root, own, look_inside)
        left += more
        if len(inner) != 1 or not _level(inner[0].path, own, False)[0]:
            return root, inner, left
        info = inner[0].stat()
        if (info.st_dev, info.st_ino) in entered:
            return root, inner, left
        root = inner[0].path


def _refuse_parts(root, inner, images):
    """Raise StudyError if folders are parts of a data set, each with folders of the same classes.

    ``images``: {folder: paths in it}.
    """
    shared, parts = {}, []
    for entry in inner:
        found = images[entry.name]
        folders = {composed(path.split("/")[0]) for path in found if "/" in path}
        loose = sum("/" not in path for path in found)
        if folders and loose <= LOOSE * len(found):
            parts.append(entry.name)
            for name in folders:
                shared[name] = shared.get(name, 0) + 1
    same = [name for name, count in shared.items() if count > 1]
    words = {}
    for entry in inner:
        spelled = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", entry.name).lower()
        found = set(re.split(r"[^a-z]+", spelled)) & PART_WORDS
        if found and images[entry.name]:
            words[entry.name] = min(found)
    if len(inner) > 1 and {entry.name.lower() for entry in inner} <= PARTS:
        parts = [entry.name for entry in inner]
    elif len(set(words.values())) > 1 and set(words) & set(parts):
        parts = list(words)
    elif len(same) < 2 or 2 * len(same) < len(shared):
        return
    raise StudyError(
        # Names that are not UTF-8 are escaped: a message goes into tables and logs.
        f"{printable(root)}: {printable(', '.join(parts))} look like parts of a split, not like "
        "classes; put the folders of all classes side by side, or write a table that gives the part "
        "of each image (dataset.format: csv, with a column split)"
    )


def build(folder, own=None):
    """Return (class names, rows) of a folder of folders; see `cub.build`.

    Classes are sorted as numbers if all names are whole numbers, else by name. Images may be in
    subfolders of a class's folder, also in linked ones. A single outer folder, as in many archives, is
    skipped. ``own``: a path in the study's results; the folder that holds them is no class. Raises
    StudyError if there are no images, and for folders that are parts of a data set.
    """
    root, inner, _ = _classes(folder, own)
    images = {entry.name: find_image_files(entry.path)[0] for entry in inner}
    _refuse_parts(root, inner, images)
    outer = os.path.relpath(root, folder).replace(os.sep, "/")
    outer = "" if outer == "." else f"{outer}/"
    names = in_order(images)
    rows = [
        {"path": f"{outer}{name}/{path}", "class_id": index, "box": None, "official_part": None}
        for index, name in enumerate(names)
        for path in images[name]
    ]
    if not rows:
        raise StudyError(f"{folder}: contains no folders of images; expected one folder per class")
    return names, rows


def left_out(folder, own=None, *, by_content=False):
    """Files and folders that `build` does not list: a list of `LeftOut` with paths below ``folder``.

    ``by_content``: see `find_image_files`.
    """
    _, inner, left = _classes(folder, own, by_content)
    found = [LeftOut(os.path.relpath(one.path, folder), one.reason) for one in left]
    for entry in inner:
        base = os.path.relpath(entry.path, folder)
        found += [
            LeftOut(f"{base}/{one.path}", one.reason)
            for one in find_image_files(entry.path, by_content=by_content)[1]
        ]
    return found
