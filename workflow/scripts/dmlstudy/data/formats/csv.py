"""A CSV table with a row per image: path, label, optionally a part of the split and a bounding box."""

import csv
import math
import posixpath
from pathlib import Path

from dmlstudy.core.files import StudyError

# Names of open-metric-learning. Its column `category` groups labels and is not used here; unknown
# columns are ignored.
PARTS = ("train", "validation", "test")
BOX = ("x_1", "x_2", "y_1", "y_2")
TRUE, FALSE = {"true", "1", "1.0"}, {"false", "0", "0.0", ""}


def _table_file(folder, name):
    """Path of the table: the named one, or the only .csv file in the folder or one level below it."""
    if name is not None:
        path = posixpath.normpath(name)
        if path.startswith(("/", "..")):
            raise StudyError(f"dataset.csv: {name} is outside {folder}")
        # The name of an archive's single outer folder may be left out.
        found = [folder / path] if (folder / path).is_file() else sorted(folder.glob(f"*/{path}"))
        if len(found) != 1:
            raise StudyError(f"dataset.csv: {folder / path}: no such file")
        return found[0]
    for pattern in ("*.csv", "*/*.csv"):
        found = sorted(
            path
            for path in folder.glob(pattern)
            if path.is_file() and not path.name.startswith(".")
        )
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(path.relative_to(folder).as_posix() for path in found)
            raise StudyError(f"{folder}: several tables ({names}); choose one with dataset.csv")
    raise StudyError(f"{folder}: contains no .csv file")


def _read(path):
    """(column names, rows) of a table; a row is (line number, {column: text})."""
    try:
        # utf-8-sig: spreadsheets write a byte order mark at the start of a file.
        with open(path, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            rows = []
            for fields in reader:
                if not any(fields):
                    continue
                if len(fields) != len(columns):
                    raise StudyError(
                        f"{path}:{reader.line_num}: {len(fields)} fields, but {len(columns)} columns"
                    )
                values = (field.strip() for field in fields)
                rows.append((reader.line_num, dict(zip(columns, values, strict=True))))
    except (csv.Error, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as a CSV table: {error}") from None
    for name in ("path", "label"):
        if columns.count(name) != 1:
            raise StudyError(
                f"{path}: expected exactly one column {name!r}, separated by commas; found the "
                f"columns {', '.join(map(repr, columns))}"
            )
    twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        raise StudyError(f"{path}: column {twice[0]!r} appears {columns.count(twice[0])} times")
    return columns, rows


def _truth(where, column, row):
    text = row.get(column, "").lower()
    if text not in TRUE | FALSE:
        raise StudyError(f"{where}: {column} is {row[column]!r}; must be True, False or empty")
    return text in TRUE


def _part(where, row, has_queries):
    """The part of the data set's own split that a row names, or None."""
    part = row.get("split", "")
    if not part:
        return None
    if part not in PARTS:
        raise StudyError(f"{where}: split is {part!r}; must be one of {', '.join(PARTS)}")
    query, gallery = _truth(where, "is_query", row), _truth(where, "is_gallery", row)
    if part == "train" and query:
        raise StudyError(f"{where}: a training image cannot be a query")
    if part != "validation" or not has_queries:
        return part
    # open-metric-learning evaluates on its validation part. Its queries are this study's test images;
    # images that are only searched belong to this study's training images.
    if not query and not gallery:
        raise StudyError(f"{where}: a validation image must be a query or in the gallery")
    return "test" if query else "train"


def _box(where, row):
    """(x, y, width, height) or None."""
    texts = [row.get(name, "") for name in BOX]
    if not any(texts):
        return None
    try:
        left, right, top, bottom = map(float, texts)
    except ValueError:
        raise StudyError(f"{where}: {', '.join(BOX)} are not four numbers: {texts}") from None
    if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
        raise StudyError(f"{where}: the box is empty or starts outside the image: {texts}")
    return left, top, right - left, bottom - top


def build(folder, *, csv: str | None = None):
    """Return (class names, rows) of a folder with a table; see `cub.build`.

    ``csv``: path of the table within ``folder``; by default the only table there. Columns, in any order:
    ``path`` (relative to the table's folder, inside ``folder``), ``label`` (class name; if all labels
    are whole numbers, classes are sorted as numbers, else as text), optionally ``split`` (train,
    validation, test; with open-metric-learning's ``is_query`` and ``is_gallery``) and
    ``x_1, x_2, y_1, y_2`` (left, right, top, bottom of a bounding box in pixels).
    Raises StudyError that names file and line.
    """
    folder = Path(folder)
    path = _table_file(folder, csv)
    columns, lines = _read(path)
    has_queries = "is_query" in columns
    base = path.parent.relative_to(folder).as_posix()
    rows, listed = [], {}
    for number, row in lines:
        where = f"{path}:{number}"
        for name in ("path", "label"):
            if not row[name]:
                raise StudyError(f"{where}: no {name}")
        target = Path(row["path"])
        if target.is_absolute() and target.is_relative_to(folder.absolute()):
            image = target.relative_to(folder.absolute()).as_posix()
        else:
            image = posixpath.normpath(posixpath.join(base, row["path"]))
        if image.startswith(("/", "../")):
            raise StudyError(f"{where}: {row['path']} is outside {folder}")
        if image in listed:
            raise StudyError(f"{where}: {row['path']} is also in line {listed[image]}")
        listed[image] = number
        part = _part(where, row, has_queries)
        if rows and (part is None) != (rows[0]["official_part"] is None):
            raise StudyError(f"{where}: split must be given for all images or for none")
        rows.append(
            {
                "path": image,
                "class_id": row["label"],
                "box": _box(where, row),
                "official_part": part,
            }
        )
    labels = {row["class_id"] for row in rows}
    numbers = all(label.isdecimal() for label in labels)
    names = sorted(labels, key=lambda label: (int(label), label) if numbers else label)
    ids = {name: index for index, name in enumerate(names)}
    return names, [{**row, "class_id": ids[row["class_id"]]} for row in rows]
