"""Hotels-50K: input/dataset/*.csv, images/train/CHAIN/HOTEL/SOURCE/*, images/test/unoccluded/… ."""

import csv
import io
import os

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.class_names import in_order
from dmlstudy.data.formats import tables
from dmlstudy.data.formats.published import (
    Rows,
    find_root,
    single_reasons,
    unlisted,
    without_singles,
)
from dmlstudy.data.image_files import LeftOut

NAME = "Hotels-50K"
TABLES = "input/dataset"
HOTELS = ["hotel_id", "hotel_name", "chain_id", "latitude", "longitude"]
IMAGES = ["image_id", "hotel_id", "image_url", "image_source", "upload_timestamp"]
PLACES = {"train": "images/train", "test": "images/test/unoccluded"}


def _table(path, columns):
    """(place, {column: text}) of each row of a CSV table. Its first row may hold the names of columns."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file; the folder does not have the layout of {NAME}")
    reader = csv.reader(io.StringIO(tables.read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if not row or row == columns:
                continue
            if len(row) != len(columns):
                raise StudyError(f"{where}: {len(row)} fields, but {len(columns)} columns")
            yield where, dict(zip(columns, map(str.strip, row), strict=True))
    except csv.Error as error:
        raise StudyError(f"{path}: cannot be read as a CSV table: {error}") from None


def _file(root, row, part, chain):
    """Where the image of a row is, relative to ``root``."""
    ending = os.path.splitext(row["image_url"].partition("?")[0])[1] if part == "train" else ".jpg"
    folder = f"{PLACES[part]}/{chain}/{row['hotel_id']}/{row['image_source']}"
    return f"{folder}/{row['image_id']}{ending or '.jpg'}"


def _read(folder):
    """(names, rows, rows of hotels with a single image, {part: paths that are not there})."""
    root = find_root(folder, f"{TABLES}/train_set.csv", NAME)
    hotels = {
        row["hotel_id"]: (row["hotel_name"], row["chain_id"])
        for _, row in _table(root / TABLES / "hotel_info.csv", HOTELS)
    }
    rows, absent = Rows(folder, root), {}
    for part in PLACES:
        path = root / TABLES / f"{part}_set.csv"
        if part == "test" and not path.is_file():
            continue
        for where, row in _table(path, IMAGES):
            hotel = row["hotel_id"]
            if hotel not in hotels:
                raise StudyError(f"{where}: hotel {hotel!r} is not in hotel_info.csv")
            image = _file(root, row, part, hotels[hotel][1])
            rows.add(where, image, hotel)
            if not (root / image).is_file():
                absent.setdefault(part, []).append(rows.rows.pop()["path"])
    used = in_order({row["class_id"] for row in rows.rows})
    ids = {hotel: index for index, hotel in enumerate(used)}
    names = [f"{hotels[hotel][0]} ({hotel})" for hotel in used]
    found = [{**row, "class_id": ids[row["class_id"]]} for row in rows.rows]
    return *without_singles(names, found), absent


def build(folder):
    """Return (class names, rows); see `cub.build`.

    A class is one hotel; the last ones are those with the highest numbers. Many images can no longer be
    downloaded from the addresses in the tables: what is not there is left out, and so are hotels with a
    single image (see `left_out`). There is no split of images, since most hotels have no test image.
    """
    return _read(folder)[:2]


def left_out(folder, own=None, *, by_content=False):
    """What `build` does not list: absent images, hotels with a single one; see `folders.left_out`."""
    _, rows, singles, absent = _read(folder)
    return [
        *unlisted(folder, own, rows, single_reasons(singles), by_content=by_content),
        *(
            LeftOut(PLACES[part], f"lacks {len(paths)} image(s) of the table: {first_of(paths, 3)}")
            for part, paths in absent.items()
        ),
    ]
