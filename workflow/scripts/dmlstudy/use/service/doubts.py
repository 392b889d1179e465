"""Doubtful answers that wait for a person: each a photograph and what was answered."""

import logging
import threading
import time

from dmlstudy.core.files import read_json, write_json
from dmlstudy.use.service.files import copy_durably
from dmlstudy.use.service.shelf import Missing

# An answer that is right less often than this is doubtful.
SURE = 0.5
# What all use of a row.
NEEDED = {"doubt_id", "photograph", "nearest", "time"}


def why_doubtful(answer):
    """Why a person should look at an answer (a row of `gallery.classify`), or None."""
    if not answer["known"]:
        return "unknown"
    probability = answer["probability"]
    # An index of an earlier version has none. A vote alone says little of a class with few photographs.
    if probability != probability and answer["vote_class_name"] != answer["nearest_class_name"]:
        return "the nearest photograph and the vote differ"
    return f"probability below {SURE:g}" if probability < SURE else None


def _row(path):
    """The row in a file; None if a machine that lost its power left it by half."""
    try:
        row = read_json(path)
    except ValueError:
        row = None
    if isinstance(row, dict) and row.keys() >= NEEDED:
        return row
    logging.getLogger(__name__).warning("%s: cannot be read, so this answer is removed", path)
    return None


class Doubts:
    """The list in a folder. The newest ``most`` are kept; 0: none."""

    def __init__(self, folder, most):
        self.folder, self.most, self._lock = folder, most, threading.Lock()
        self._rows = {}
        for path in sorted(folder.glob("*.json")):
            # A photograph is written before its row.
            row = _row(path) if path.with_suffix(".img").exists() else None
            if row is not None:
                self._rows[path.stem] = row
        for path in folder.iterdir():
            if path.is_file() and (
                path.stem not in self._rows or path.suffix not in (".json", ".img")
            ):
                path.unlink()

    def rows(self):
        """The rows, newest first."""
        with self._lock:
            return sorted(self._rows.values(), key=lambda row: row["time"], reverse=True)

    def add(self, photograph, row):
        """Keep a photograph and its answer; the same bytes are kept once."""
        identity = photograph.digest
        if not self.most:
            return None
        with self._lock:
            if identity not in self._rows:
                copy_durably(photograph.path, self.folder / f"{identity}.img")
                row = {**row, "doubt_id": identity, "time": time.time()}
                write_json(self.folder / f"{identity}.json", row)
                self._rows[identity] = row
                oldest = sorted(self._rows, key=lambda one: self._rows[one]["time"])
                for one in oldest[: -self.most]:
                    self._drop(one)
        return identity

    def row(self, identity):
        """A row; `Missing` if it is not on the list (any more)."""
        with self._lock:
            if identity not in self._rows:
                raise Missing("this answer is no longer on the list")
            return self._rows[identity]

    def path(self, identity):
        """The photograph's file."""
        self.row(identity)
        return self.folder / f"{identity}.img"

    def remove(self, identity):
        """Take an answer off the list; its photograph is removed. `Missing` if it is not on it."""
        self.row(identity)
        self.forget(identity)

    def forget(self, identity):
        """`remove`, also of an answer that somebody else took off the list meanwhile."""
        with self._lock:
            self._drop(identity)

    def _drop(self, identity):
        self._rows.pop(identity, None)
        for ending in (".json", ".img"):
            (self.folder / f"{identity}{ending}").unlink(missing_ok=True)
