"""What the layouts of published data sets have in common. Each mistake is a StudyError with its place."""

import os
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.formats import tables
from dmlstudy.data.image_files import LeftOut, find_image_files


def find_root(folder, marker, name):
    """The folder that holds the file ``marker``: ``folder``, or the only one inside it that does.

    ``name``: the data set, for the message.
    """
    folder = Path(folder)
    found = [folder] if (folder / marker).is_file() else []
    found = found or [
        inner
        for inner in sorted(folder.glob("*/"))
        if inner.is_dir() and (inner / marker).is_file()
    ]
    if len(found) != 1:
        raise StudyError(f"{folder}: expected one {marker} in it (the layout of {name})")
    return found[0]


def read_lines(path, name):
    """(place, text) of each line that is not blank. ``name``: the data set, for the message."""
    if not Path(path).is_file():
        raise StudyError(f"{path}: no such file; the folder does not have the layout of {name}")
    found = [(f"{path}:{number}", line) for number, line in tables.lines(tables.read_text(path))]
    if not found:
        raise StudyError(f"{path}: the file is empty")
    return found


def fields(where, line, count, expected):
    """The ``count`` fields of a line, separated by blanks. ``expected``: what they are, in words."""
    found = line.split()
    if len(found) != count:
        raise StudyError(f"{where}: expected {expected}; found {line!r}")
    return found


def class_number(where, value, count):
    """A 0-based class id from a label that counts from 1. ``value``: text or a number."""
    number = tables.whole_number(value) if isinstance(value, str) else value
    if number is None or not 1 <= number <= count:
        raise StudyError(f"{where}: the class is {value}; must be a whole number from 1 to {count}")
    return int(number) - 1


def corner_box(where, texts, *, first):
    """(x, y, width, height) of a box from its left, top, right and bottom.

    ``first``: the coordinate of the first pixel. Where it is 1, as in MATLAB and Pascal VOC, the corners
    are pixels inside the box; where it is 0, the right and bottom are edges.
    """
    left, top, right, bottom = tables.numbers(where, "left, top, right, bottom", texts)
    return tables.box(
        where, texts, left - first, top - first, right - left + first, bottom - top + first
    )


class Rows:
    """Collects the rows of a data set; see `cub.build` for what is in them.

    ``folder``: the data set's; ``base``: folder in it that the paths of the list start from. No path may
    lead outside, and none may be listed twice.
    """

    def __init__(self, folder, base):
        self.folder, self.base = folder, Path(base).relative_to(folder).as_posix()
        self.roots, self.rows, self.places = tables.roots(folder), [], {}

    def add(self, where, path, class_id, *, box=None, part=None):
        place = tables.place(self.roots, self.base, path)
        if place is None:
            raise tables.outside(where, self.folder, self.base, path)
        if place in self.places:
            raise StudyError(f"{where}: {path} is listed before, at {self.places[place]}")
        self.places[place] = where
        self.rows.append({"path": place, "class_id": class_id, "box": box, "official_part": part})


def without_singles(names, rows):
    """Leave out classes of a single image, which cannot be in gallery and queries: (names, rows, left).

    ``left``: the rows that are left out, each with ``class_name``. Class ids are numbered anew.
    """
    counts = [0] * len(names)
    for row in rows:
        counts[row["class_id"]] += 1
    kept = [index for index, count in enumerate(counts) if count != 1]
    ids = {old: new for new, old in enumerate(kept)}
    left = [
        {**row, "class_name": names[row["class_id"]]} for row in rows if row["class_id"] not in ids
    ]
    rows = [{**row, "class_id": ids[row["class_id"]]} for row in rows if row["class_id"] in ids]
    return [names[index] for index in kept], rows, left


def single_reasons(singles):
    """{path: why it is left out} of the rows that `without_singles` left out."""
    return {
        row["path"]: f"is the only image of {row['class_name']}; a split needs two"
        for row in singles
    }


def unlisted(folder, own, rows, reasons, *, by_content):
    """What a data set does not list: a list of `LeftOut`; see `listing.left_out`.

    ``reasons``: {path: why} of images that its format leaves out.
    """
    images, left = find_image_files(folder, by_content=by_content)
    listed = {row["path"] for row in rows}
    results, root = own and os.path.realpath(own), os.path.realpath(folder)
    others = {}
    for path in images:
        top = os.path.join(root, path.split("/")[0])
        if path in reasons:
            left.append(LeftOut(path, reasons[path]))
        elif path not in listed and not (results and results.startswith(top + os.sep)):
            others.setdefault(os.path.dirname(path) or ".", []).append(path)
    return left + [
        LeftOut(place, f"holds {len(paths)} image(s) that no table lists: {first_of(paths, 10)}")
        for place, paths in others.items()
    ]


def refuse_unused(names, rows, where):
    """Raise StudyError for classes that no image of a list has."""
    used = {row["class_id"] for row in rows}
    unused = [name for index, name in enumerate(names) if index not in used]
    if unused:
        raise StudyError(f"{where}: no image of {first_of(unused)} is listed")
