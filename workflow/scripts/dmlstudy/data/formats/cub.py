"""The layout of CUB-200-2011: images.txt, classes.txt, image_class_labels.txt, bounding_boxes.txt."""

import math
import posixpath
from pathlib import Path

from dmlstudy.core.files import StudyError


def _table(path, columns):
    """Rows of a space-separated file with 1-based ids: {id: [other columns]}."""
    if not path.is_file():
        raise StudyError(
            f"{path}: no such file; the folder does not have the layout of CUB-200-2011"
        )
    rows = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        # Only the last column (a file name) may contain spaces.
        fields = line.split(None, columns - 1)
        if len(fields) != columns or not fields[0].isdecimal():
            raise StudyError(f"{path}:{number}: expected {columns} columns, found {line!r}")
        key = int(fields[0])
        if key in rows:
            raise StudyError(f"{path}:{number}: id {key} appears twice")
        rows[key] = [field.strip() for field in fields[1:]]
    return rows


def _root(folder):
    """The folder with images.txt: the given one, or a single folder inside it."""
    folder = Path(folder)
    found = [folder] if (folder / "images.txt").is_file() else sorted(folder.glob("*/images.txt"))
    if len(found) != 1:
        raise StudyError(f"{folder}: expected one images.txt in it (the layout of CUB-200-2011)")
    return found[0] if found[0] == folder else found[0].parent


def build(folder):
    """Return (class names, rows) of a CUB-like folder, classes in the data set's own order.

    A row: ``{path (relative to folder), class_id (0-based), box (x, y, width, height in pixels) or None,
    official_part (train, validation, test) or None}``. Image files are not opened here. Raises
    StudyError, naming file and id, for a missing row, a duplicate id or an unknown class.
    """
    folder = Path(folder)
    root = _root(folder)
    classes = _table(root / "classes.txt", 2)
    images = _table(root / "images.txt", 2)
    labels = _table(root / "image_class_labels.txt", 2)
    base = (root / "images").relative_to(folder).as_posix()
    class_ids = {key: index for index, key in enumerate(sorted(classes))}
    optional = {}
    for name, columns in (("bounding_boxes", 5), ("train_test_split", 2)):
        path = root / f"{name}.txt"
        optional[name] = _table(path, columns) if path.is_file() else None
        if optional[name] is not None:
            for key in images:
                if key not in optional[name]:
                    raise StudyError(f"{path}: no row for image {key} ({images[key][0]})")
    rows, listed = [], {}
    for key, (name,) in images.items():
        if name in listed:
            raise StudyError(
                f"{root / 'images.txt'}: images {listed[name]} and {key} have the same path {name}"
            )
        listed[name] = key
        if key not in labels:
            raise StudyError(f"{root / 'image_class_labels.txt'}: no row for image {key} ({name})")
        label = labels[key][0]
        if not label.isdecimal() or int(label) not in class_ids:
            raise StudyError(
                f"{root / 'image_class_labels.txt'}: image {key} has class {label}, "
                "which is not in classes.txt"
            )
        # Links are not followed: archives contain none, and links in a user's own folder are intended.
        path = posixpath.normpath(posixpath.join(base, name))
        if not path.startswith(f"{base}/"):
            raise StudyError(
                f"{root / 'images.txt'}: image {key} is outside the folder images: {name}"
            )
        box = official = None
        if optional["bounding_boxes"] is not None:
            try:
                box = tuple(float(value) for value in optional["bounding_boxes"][key])
                if not all(map(math.isfinite, box)):
                    raise ValueError
            except ValueError:
                raise StudyError(
                    f"{root / 'bounding_boxes.txt'}: row {key} does not have four numbers"
                ) from None
        if optional["train_test_split"] is not None:
            official = "train" if optional["train_test_split"][key][0] == "1" else "test"
        rows.append(
            {
                "path": path,
                "class_id": class_ids[int(label)],
                "box": box,
                "official_part": official,
            }
        )
    return [classes[key][0] for key in sorted(classes)], rows
