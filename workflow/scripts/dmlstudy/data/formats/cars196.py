"""Cars196 (Stanford Cars) in each of the three layouts in which it is handed on."""

import csv
import io

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import matlab, tables
from dmlstudy.data.formats.published import Rows, class_number, corner_box, find_root

NAME = "Cars196"
PARTS = {0: "train", 1: "test"}
CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def _annotations(path, *keys):
    """The entries of ``annotations`` in a .mat file, each with a box and ``keys``."""
    (found,) = matlab.read(path, "annotations", name=NAME)
    return matlab.records(path, "annotations", found, (*CORNERS, *keys))


def _class_names(path):
    (found,) = matlab.read(path, "class_names", name=NAME)
    return matlab.texts(path, "class_names", found)


def _add(rows, path, number, entry, image, classes, part):
    where = f"{path}: entry {number}"
    if not isinstance(image, str):
        raise StudyError(f"{where}: the name of the image is no text")
    box = corner_box(where, [str(entry[corner]) for corner in CORNERS], first=1)
    rows.add(where, image, class_number(where, entry["class"], classes), box=box, part=part)


def _one_list(root, folder):
    """car_ims/*.jpg and cars_annos.mat, which holds everything."""
    path = root / "cars_annos.mat"
    names, rows = _class_names(path), Rows(folder, root)
    entries = _annotations(path, "class", "test", "relative_im_path")
    for number, entry in enumerate(entries, 1):
        if entry["test"] not in PARTS:
            raise StudyError(f"{path}: entry {number}: test is {entry['test']}; must be 0 or 1")
        image, part = entry["relative_im_path"], PARTS[entry["test"]]
        _add(rows, path, number, entry, image, len(names), part)
    return names, rows.rows


def _development_kit(root, folder):
    """cars_train/*.jpg and cars_test/*.jpg, with devkit/ and cars_test_annos_withlabels.mat."""
    names, rows = _class_names(root / "devkit/cars_meta.mat"), Rows(folder, root)
    test = root / "cars_test_annos_withlabels.mat"
    test = test if test.is_file() else root / "devkit" / test.name
    for part, path in (("train", root / "devkit/cars_train_annos.mat"), ("test", test)):
        for number, entry in enumerate(_annotations(path, "class", "fname"), 1):
            image = f"cars_{part}/{entry['fname']}"
            _add(rows, path, number, entry, image, len(names), part)
    return names, rows.rows


def _by_class(root, folder):
    """car_data/car_data/PART/CLASS/*.jpg, with names.csv, anno_train.csv and anno_test.csv."""
    names = [text.strip() for _, text in tables.lines(tables.read_text(root / "names.csv"))]
    rows = Rows(folder, root)
    for part in ("train", "test"):
        path = root / f"anno_{part}.csv"
        if not path.is_file():
            raise StudyError(f"{path}: no such file; the folder does not have the layout of {NAME}")
        table = csv.reader(io.StringIO(tables.read_text(path), newline=""))
        for number, fields in enumerate(table, 1):
            where = f"{path}:{number}"
            if len(fields) != 6:
                raise StudyError(f"{where}: expected image, x1, y1, x2, y2 and class")
            image, *corners, label = fields
            class_id = class_number(where, label.strip(), len(names))
            # Folders cannot have a slash in their name.
            place = f"car_data/car_data/{part}/{names[class_id].replace('/', '-')}/{image}"
            rows.add(where, place, class_id, box=corner_box(where, corners, first=1), part=part)
    return names, rows.rows


LAYOUTS = {
    "cars_annos.mat": _one_list,
    "devkit/cars_meta.mat": _development_kit,
    "names.csv": _by_class,
}


def build(folder):
    """Return (class names, rows); see `cub.build`. The layout is that of the table that is there."""
    for marker, read in LAYOUTS.items():
        try:
            root = find_root(folder, marker, NAME)
        except StudyError:
            continue
        return read(root, folder)
    raise StudyError(f"{folder}: expected one of {', '.join(LAYOUTS)} in it (a layout of {NAME})")
