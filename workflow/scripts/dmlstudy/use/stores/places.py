"""The option --store: which store an index is in."""

from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.use.index_files import index_folder
from dmlstudy.use.run_folder import MODEL
from dmlstudy.use.stores import postgresql
from dmlstudy.use.stores.faiss_folder import FaissFolder
from dmlstudy.use.stores.sqlite_file import SqliteFile

OPTION = "--store"
FORMS = {"faiss": "faiss:FOLDER", "sqlite": "sqlite:FILE", "postgresql": postgresql.FORM}


def add_option(parser, instead_of):
    """Add --store. ``instead_of``: the options that it takes the place of."""
    parser.add_argument(
        OPTION,
        help=f"where the index is, instead of {instead_of}: {', '.join(FORMS.values())} (docs/stores.md)",
    )


def open_store(text, run):
    """The `Store` that the option's value names. ``run``: the run's folder.

    StudyError for another value. Its message does not repeat the value, which may hold a password.
    """
    kind, colon, place = text.partition(":")
    if kind not in FORMS or not colon or not place:
        raise StudyError(f"{OPTION}: must be {' or '.join(FORMS.values())}")
    model = Path(run) / MODEL
    if kind == "postgresql":
        return postgresql.PostgresqlTables(text, model)
    if kind == "sqlite":
        return SqliteFile(place, model)
    return FaissFolder(index_folder(run, place), model)
