"""A log of answers for `drift`: when, which class, how similar. It holds no photographs and no names."""

import logging
import sqlite3
import threading
import time

import pandas as pd

COLUMNS = ["time", "class_id", "similarity", "doubt_id"]
TABLE = """CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, class_id INTEGER NOT NULL,
    similarity REAL NOT NULL, doubt_id TEXT)"""


class AnswerLog:
    """The newest ``most`` answers (0: none), in the SQLite file ``path``.

    A log that cannot be used stops no answer: ``problem`` then says why. It is None again after an answer was written.
    """

    def __init__(self, path, most):
        self.path, self.most, self.problem = path, most, None
        self._lock, self._file = threading.Lock(), None
        if most:
            self._try(self._open)

    def add(self, answers):
        """Add answers as the API gives them; their class is that of the nearest photograph."""
        now = time.time()
        rows = [
            (now, one["nearest"][0]["class_id"], one["similarity"], one.get("doubt_id"))
            for one in answers
        ]
        if rows and self._file is not None and self._try(self._write, rows):
            self.problem = None

    def rows(self):
        """The table of answers, oldest first: time (seconds since 1970), class_id (of the nearest photograph),
        similarity, doubt_id (None if the photograph was not kept)."""
        found = self._try(self._read) if self._file is not None else None
        return pd.DataFrame(found or [], columns=COLUMNS)

    def close(self):
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _try(self, work, *arguments):
        """What ``work`` returns; None if the file cannot be used, which ``problem`` then says."""
        with self._lock:
            try:
                found = work(*arguments)
            except sqlite3.Error as error:
                if self.problem is None:
                    logging.getLogger(__name__).warning("%s: %s", self.path, error)
                self.problem = f"{self.path.name}: {error}"
                return None
            return found

    def _open(self):
        file = sqlite3.connect(self.path, timeout=5, check_same_thread=False, isolation_level=None)
        try:
            # Readers and a writer at a time; the last answers may be lost with the machine's power.
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=NORMAL")
            file.execute(TABLE)
        except sqlite3.Error:
            file.close()
            raise
        self._file = file

    def _write(self, rows):
        self._file.execute("BEGIN IMMEDIATE")
        try:
            insert = (
                "INSERT INTO answers (time, class_id, similarity, doubt_id) VALUES (?, ?, ?, ?)"
            )
            self._file.executemany(insert, rows)
            self._file.execute(
                "DELETE FROM answers WHERE number <= (SELECT MAX(number) FROM answers) - ?",
                (self.most,),
            )
            self._file.execute("COMMIT")
            return True
        except BaseException:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            raise

    def _read(self):
        return self._file.execute(
            f"SELECT {', '.join(COLUMNS)} FROM answers ORDER BY number"
        ).fetchall()
