"""An index in one SQLite file, searched by the extension sqlite-vec: no server, and a change writes only what differs."""

import contextlib
from pathlib import Path

import numpy as np

from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_output
from dmlstudy.use.index_files import locked
from dmlstudy.use.stores.store import Unreachable
from dmlstudy.use.stores.tables import Tables

# "DML1" in the header of the file, so that no other database is taken for an index.
APPLICATION = 0x444D4C31
# Milliseconds to wait for a program that writes.
PATIENCE = 60_000
MAKING = (
    f"PRAGMA application_id = {APPLICATION}",
    "CREATE TABLE {}gallery (stamp TEXT NOT NULL, metadata TEXT NOT NULL, class_weights BLOB)",
    "CREATE TABLE {}classes (class_id INTEGER PRIMARY KEY, class_name TEXT NOT NULL)",
    "CREATE TABLE {}images (position INTEGER PRIMARY KEY AUTOINCREMENT, image_id INTEGER NOT NULL UNIQUE, "
    "class_id INTEGER NOT NULL REFERENCES {}classes, path TEXT NOT NULL, sha256 TEXT, embedding BLOB NOT NULL)",
    "CREATE INDEX {}images_of_class ON {}images (class_id)",
)


class _Asking:
    """Runs statements on a connection."""

    def __init__(self, connection):
        self.connection = connection

    def __call__(self, statement, values=()):
        return list(self.connection.execute(statement, values))

    def many(self, statement, rows):
        self.connection.executemany(statement, rows)


class SqliteFile(Tables):
    """The index in the file ``path``, which may be a link to it."""

    distance, making = "vec_distance_cosine(embedding, ?)", MAKING

    def __init__(self, path, model):
        self.shown = str(path)
        # One file has one lock, whatever links lead to it. SQLite itself takes ":memory:" for no file at all.
        self.path = Path(path).resolve()
        super().__init__(Path(model), self.path)

    def __str__(self):
        return self.shown

    def check(self):
        check_output("--store", self.path)
        with self._reading() as ask:
            self._made(ask)

    def changing(self):
        return locked(self.path)

    @contextlib.contextmanager
    def _reading(self):
        if not self.path.is_file():
            yield None
            return
        with self._transaction("BEGIN") as ask:
            yield ask

    @contextlib.contextmanager
    def _writing(self):
        with self._transaction("BEGIN IMMEDIATE") as ask:
            yield ask

    @contextlib.contextmanager
    def _transaction(self, begin):
        # Imported late: it brings an SQLite of its own, because Python's often cannot load extensions.
        import apsw
        import sqlite_vec

        try:
            flags = apsw.SQLITE_OPEN_READWRITE
            if begin != "BEGIN":
                flags |= apsw.SQLITE_OPEN_CREATE
            connection = apsw.Connection(str(self.path), flags)
            try:
                connection.set_busy_timeout(PATIENCE)
                connection.enable_load_extension(True)
                connection.load_extension(sqlite_vec.loadable_path())
                # What is removed is overwritten; a transaction is on the disk when it ends.
                connection.execute("PRAGMA secure_delete = ON; PRAGMA synchronous = EXTRA")
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute(begin)
                yield _Asking(connection)
                connection.execute("COMMIT")
            finally:
                # Undoes a transaction that was not committed.
                connection.close()
        except apsw.NotADBError:
            raise StudyError(
                f"{self}: this file is not an SQLite database, so it is no index"
            ) from None
        except apsw.BusyError:
            raise Unreachable(f"{self}: another program uses this file; try again later") from None
        except apsw.Error as error:
            raise StudyError(f"{self}: SQLite cannot use this file: {error}") from None

    def _made(self, ask):
        if ask is None:
            return False
        application = ask("PRAGMA application_id")[0][0]
        tables = ask("SELECT count(*) FROM sqlite_schema")[0][0]
        if tables and application != APPLICATION:
            raise StudyError(f"{self}: this file is another SQLite database; choose another file")
        return tables > 0

    def _stored(self, vector):
        return np.ascontiguousarray(vector, dtype=np.float32).tobytes()

    def _vector(self, value):
        return np.frombuffer(value, dtype=np.float32)
