"""A CSV table with a row per image: path, label, optionally a part of the split and a bounding box."""

import csv
import glob
import io
import os
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of
from dmlstudy.data.class_names import in_order
from dmlstudy.data.formats import tables

# Names of open-metric-learning. Its column `category` groups labels and is not used here; unknown
# columns are ignored.
PARTS = ("train", "validation", "test")
BOX = ("x_1", "x_2", "y_1", "y_2")
TRUE, FALSE = {"true", "1", "1.0"}, {"false", "0", "0.0", ""}
REQUIRED = ("path", "label")
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Endings of files that may be tables, which are read only if dataset.csv names them.
OTHER_TABLES = (".tsv", ".tab", ".txt", ".xlsx", ".xls", ".ods", ".parquet")


def _table_file(folder, name):
    """Path of the table: the named one, or the only .csv file in the folder or one level below it."""
    if name is not None:
        path = tables.place(tables.roots(folder), "", name)
        if path is None:
            raise StudyError(f"dataset.csv: {name} is outside {folder}")
        # The name of an archive's single outer folder may be left out.
        found = [folder / path] if os.path.isfile(folder / path) else []
        found = found or sorted(folder.glob(f"*/{glob.escape(path)}"))
        if len(found) != 1:
            raise StudyError(f"dataset.csv: {folder / path}: no such file")
        return found[0]
    for level in ("*", "*/*"):
        files = [path for path in sorted(folder.glob(level)) if path.is_file()]
        found = [
            path
            for path in files
            if path.suffix.lower() == ".csv" and not path.name.startswith(".")
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise StudyError(
                f"{folder}: several tables ({_names(found, folder)}); choose one with dataset.csv"
            )
    others = [
        path
        for level in ("*", "*/*")
        for path in sorted(folder.glob(level))
        if path.suffix.lower() in OTHER_TABLES
    ]
    if others:
        raise StudyError(
            f"{folder}: contains no .csv file, but {_names(others, folder)}; name the table with "
            "dataset.csv (a text with tabs, semicolons or commas)"
        )
    raise StudyError(f"{folder}: contains no .csv file; name the table with dataset.csv")


def _names(paths, folder):
    return first_of([path.relative_to(folder).as_posix() for path in paths], 5)


def _separator(text):
    """(separator, lines before the header) of a table."""
    start = io.StringIO(text, newline="")
    first = start.readline()
    # A first line that some spreadsheets write and read.
    if first.strip().lower() in ("sep=,", "sep=;", "sep=\t", "sep="):
        return first.strip("\r\n")[4:5] or "\t", 1
    for separator in SEPARATORS:
        columns = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
        if set(REQUIRED) <= {name.strip() for name in columns}:
            return separator, 0
    return ",", 0


def _read(path):
    """(column names, rows) of a table; a row is (line number, {column: text})."""
    text = tables.read_text(path)
    rows = []
    try:
        separator, skipped = _separator(text)
        stream = io.StringIO(text, newline="")
        for _ in range(skipped):
            stream.readline()
        reader = csv.reader(stream, delimiter=separator, strict=True)
        columns = [name.strip() for name in next(reader, [])]
        for fields in reader:
            values = [field.strip() for field in fields]
            if not any(values):
                continue
            number = reader.line_num + skipped
            if len(values) != len(columns):
                raise StudyError(
                    f"{path}:{number}: {len(values)} fields, but {len(columns)} columns"
                )
            rows.append((number, dict(zip(columns, values, strict=True))))
    except csv.Error as error:
        raise StudyError(f"{path}: cannot be read as a CSV table: {error}") from None
    for name in REQUIRED:
        if columns.count(name) != 1:
            raise StudyError(
                f"{path}: expected exactly one column {name!r}, separated by commas, semicolons or tabs; "
                f"found the columns {', '.join(map(repr, columns))}"
            )
    twice = [name for name in dict.fromkeys(columns) if name and columns.count(name) > 1]
    if twice:
        raise StudyError(f"{path}: column {twice[0]!r} appears {columns.count(twice[0])} times")
    if not rows:
        raise StudyError(f"{path}: the table has no rows; it must have one for each image")
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
    left, right, top, bottom = tables.numbers(where, ", ".join(BOX), texts)
    return tables.box(where, texts, left, top, right - left, bottom - top)


def build(folder, *, csv: str | None = None):
    """Return (class names, rows) of a folder with a table; see `cub.build`.

    ``csv``: path of the table within ``folder``; by default the only ``.csv`` file there. It is UTF-8
    (or UTF-16 with a byte order mark), separated by commas, semicolons or tabs. Columns, in any order:
    ``path`` (relative to the table's folder, or absolute; inside ``folder``), ``label`` (class name; if
    all labels are whole numbers, classes are sorted as numbers, else as text), optionally ``split``
    (train, validation, test; with open-metric-learning's ``is_query`` and ``is_gallery``) and
    ``x_1, x_2, y_1, y_2`` (left, right, top, bottom of a bounding box in pixels).
    Raises StudyError that names file and line.
    """
    folder = Path(folder)
    path = _table_file(folder, csv)
    columns, lines = _read(path)
    has_queries = "is_query" in columns
    base = path.parent.relative_to(folder).as_posix()
    roots = tables.roots(folder)
    rows, listed = [], {}
    for number, row in lines:
        where = f"{path}:{number}"
        for name in REQUIRED:
            if not row[name]:
                raise StudyError(f"{where}: no {name}")
        image = tables.place(roots, base, row["path"])
        if image is None:
            raise tables.outside(where, folder, base, row["path"])
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
    names = in_order({row["class_id"] for row in rows})
    ids = {name: index for index, name in enumerate(names)}
    return names, [{**row, "class_id": ids[row["class_id"]]} for row in rows]
