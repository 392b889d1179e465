"""The layout of CUB-200-2011: images.txt, classes.txt, image_class_labels.txt, bounding_boxes.txt."""

import posixpath
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import tables

PARTS = {"0": "test", "1": "train"}


def _table(path, columns):
    """Rows of a table with 1-based ids: {id: ("file:line", [other columns])}.

    Columns are separated by blanks or tabs. Only the last one (a name) may contain blanks.
    """
    if not path.is_file():
        raise StudyError(
            f"{path}: no such file; the folder does not have the layout of CUB-200-2011"
        )
    rows = {}
    for number, line in tables.lines(tables.read_text(path)):
        where = f"{path}:{number}"
        fields = line.split(None, columns - 1)
        key = tables.whole_number(fields[0])
        if len(fields) != columns or key is None:
            raise StudyError(
                f"{where}: expected {columns} columns, the first one a whole number; found {line!r}"
            )
        if key in rows:
            raise StudyError(f"{where}: id {key} appears twice")
        rows[key] = where, [field.strip() for field in fields[1:]]
    if not rows:
        raise StudyError(f"{path}: the table has no rows")
    return rows


def _root(folder):
    """The folder with images.txt: the given one, or a single folder inside it."""
    folder = Path(folder)
    found = [folder] if (folder / "images.txt").is_file() else sorted(folder.glob("*/images.txt"))
    if len(found) != 1:
        raise StudyError(f"{folder}: expected one images.txt in it (the layout of CUB-200-2011)")
    return found[0] if found[0] == folder else found[0].parent


def _optional(root, name, columns, images):
    """A table that may be missing, as `_table`, with a row for each image; or None."""
    path = root / f"{name}.txt"
    if not path.is_file():
        return None
    table = _table(path, columns)
    for key, (_, (image,)) in images.items():
        if key not in table:
            raise StudyError(f"{path}: no row for image {key} ({image})")
    return table


def _box(where, texts):
    x, y, width, height = tables.numbers(where, "x, y, width, height", texts)
    return tables.box(where, texts, x, y, width, height)


def _part(where, text):
    if text not in PARTS:
        raise StudyError(f"{where}: the part is {text!r}; must be 1 (training) or 0 (test)")
    return PARTS[text]


def build(folder):
    """Return (class names, rows) of a CUB-like folder, classes in the data set's own order.

    A row: ``{path (relative to folder), class_id (0-based), box (x, y, width, height in pixels) or None,
    official_part (train, validation, test) or None}``. Image files are not opened here. Raises
    StudyError, naming file and line or id, for a missing row, a duplicate id, an unknown class, a box
    without area and a part other than 0 or 1.
    """
    folder = Path(folder)
    root = _root(folder)
    classes = _table(root / "classes.txt", 2)
    images = _table(root / "images.txt", 2)
    labels = _table(root / "image_class_labels.txt", 2)
    boxes = _optional(root, "bounding_boxes", 5, images)
    parts = _optional(root, "train_test_split", 2, images)
    base = (root / "images").relative_to(folder).as_posix()
    class_ids = {key: index for index, key in enumerate(sorted(classes))}
    rows, listed = [], {}
    for key, (image_where, (name,)) in images.items():
        # Links are not followed: archives contain none, and links in a user's own folder are intended.
        path = posixpath.normpath(posixpath.join(base, name))
        if not path.startswith(f"{base}/"):
            raise StudyError(f"{image_where}: image {key} is outside the folder images: {name}")
        if path in listed:
            raise StudyError(
                f"{image_where}: images {listed[path]} and {key} have the same path {name}"
            )
        listed[path] = key
        if key not in labels:
            raise StudyError(f"{root / 'image_class_labels.txt'}: no row for image {key} ({name})")
        label_where, (label,) = labels[key]
        class_id = class_ids.get(tables.whole_number(label))
        if class_id is None:
            raise StudyError(
                f"{label_where}: image {key} has class {label}, which is not in classes.txt"
            )
        rows.append(
            {
                "path": path,
                "class_id": class_id,
                "box": None if boxes is None else _box(boxes[key][0], boxes[key][1]),
                "official_part": None if parts is None else _part(parts[key][0], parts[key][1][0]),
            }
        )
    return [classes[key][1][0] for key in sorted(classes)], rows
