"""A further column of the table of the format csv, such as one that says which photographs are a group."""

from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import did_you_mean
from dmlstudy.data.class_names import composed
from dmlstudy.data.formats import csv as table_format
from dmlstudy.data.formats import tables


def table_path(folder, csv=None):
    """Path of the table that `csv.build` reads; StudyError if there is none."""
    return table_format._table_file(Path(folder), csv)


def read_column(folder, name, csv=None):
    """{path of an image, relative to ``folder``: text in the column ``name``} of a data set's table.

    Paths are in Unicode's composed form. ``csv``: as for `csv.build`. Raises StudyError if there is no such
    column, or no text in it.
    """
    folder = Path(folder)
    path = table_path(folder, csv)
    columns, lines = table_format._read(path)
    if name not in columns:
        raise StudyError(
            f"protocol.group_by.column: {path} has no column {name!r}{did_you_mean(name, columns)}; "
            f"it has {', '.join(columns)}"
        )
    base, roots = path.parent.relative_to(folder).as_posix(), tables.roots(folder)
    found = {composed(tables.place(roots, base, row["path"]) or ""): row[name] for _, row in lines}
    if not any(found.values()):
        raise StudyError(f"protocol.group_by.column: the column {name!r} of {path} is empty")
    return found
