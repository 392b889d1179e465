"""Photographs that the service keeps for its index, and what it keeps of removed classes while that can be undone.

Before a change, its note in the folder ``removed`` says which photographs may belong to no class after it. `tidy`
deletes those that do not, and then the note. So what a killed program leaves is deleted with the next change.
"""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, atomic_path, write_json
from dmlstudy.data.image_files import EXTENSIONS
from dmlstudy.use.photographs import stored_path

# Changes of an index, in its metadata; the service writes them.
HISTORY = "history"


def undoable_removals(gallery):
    """{id of the change: class name} of the removals that can be undone, oldest first. ``gallery``: a `Gallery`."""
    return {
        entry["id"]: entry["class_name"]
        for entry in gallery.metadata.get(HISTORY, [])
        if entry["what"] == "removed" and entry.get("undoable", True)
    }


def files_folder(beside):
    """The folder of the service's files for an index; ``beside``: as of its `Store`."""
    return Path(beside).with_name(f"{Path(beside).name}_files")


class KeptPhotographs:
    """Those in ``folder``, see `files_folder`. Who changes them keeps others from changing the index meanwhile."""

    def __init__(self, folder):
        self.photographs, self.removed = Path(folder) / "photographs", Path(folder) / "removed"

    def path_of(self, digest, name):
        """The path, for the index, of a photograph with this SHA-256 that a client calls ``name``."""
        ending = Path(name).suffix.lower()
        ending = ending if ending in EXTENSIONS else ".img"
        return stored_path(self.photographs / f"{digest}{ending}")

    def note(self, change, paths):
        """Write down, before a change, which photographs may belong to no class after it.

        ``change``: id of its entry in the history; ``paths``: as the index has them. Nothing is written, and nothing
        is to be tidied, where no service has kept anything.
        """
        if self.removed.is_dir():
            self._write_table(change, pd.DataFrame({"path": sorted(paths)}))

    def set_aside(self, change, embeddings, table, digests):
        """Keep what a change removes from the index, so that it can be undone.

        ``embeddings``: float32 (n, dim); ``table``: the n rows of the index; ``digests``: {image id: SHA-256}.
        """
        np.save(self.removed / f"{change}.npy", embeddings)
        write_json(self.removed / f"{change}.json", {str(one): digests[one] for one in digests})
        self._write_table(change, table)

    def taken_back(self, change):
        """(embeddings, table, digests) of `set_aside`; StudyError if they are gone."""
        try:
            embeddings = np.load(self.removed / f"{change}.npy", allow_pickle=False)
            digests = json.loads((self.removed / f"{change}.json").read_text(encoding="utf-8"))
            table = _read(self.removed / f"{change}.csv")
        except (OSError, ValueError) as error:
            raise StudyError(f"what was removed cannot be read any more: {error}") from None
        return embeddings, table, {int(one): digest for one, digest in digests.items()}

    def tidy(self, gallery):
        """Delete noted photographs that belong to no class and to no removal that can be undone; returns how many.

        ``gallery``: the `Gallery` as it is stored.
        """
        undoable, kept, gone, notes = undoable_removals(gallery), set(), set(), []
        for path in sorted(self.removed.glob("*")):
            names = _names(_paths(path))
            if path.name.partition(".")[0] in undoable:
                kept |= names
            else:
                gone |= names
                notes.append(path)
        count = self._delete(gone - kept - _names(gallery.table["path"]))
        # Last, so that nothing is forgotten if the program is killed here.
        for path in notes:
            path.unlink(missing_ok=True)
        return count

    def of_no_class(self, gallery):
        """Names of the photographs that no class of a `Gallery` has."""
        return {path.name for path in self.photographs.glob("*")} - _names(gallery.table["path"])

    def delete_all_of_no_class(self, gallery):
        """`tidy`, and delete what else belongs to no class, noted or not: also of removals that can be undone."""
        self.tidy(gallery)
        self._delete(self.of_no_class(gallery))

    def _delete(self, names):
        there = [self.photographs / one for one in names if (self.photographs / one).is_file()]
        for path in there:
            path.unlink(missing_ok=True)
        return len(there)

    def _write_table(self, change, table):
        """It is on the disk afterwards, whole."""
        with (
            atomic_path(self.removed / f"{change}.csv") as temporary,
            open(temporary, "w", encoding="utf-8", newline="") as stream,
        ):
            table.to_csv(stream, index=False)
            stream.flush()
            os.fsync(stream.fileno())


def _names(paths):
    """Names of files. A run may have been moved since its index was written, so folders say nothing."""
    return {path.rpartition("/")[2] for path in paths}


def _paths(path):
    """The photographs that a file in ``removed`` names."""
    try:
        return _read(path)["path"] if path.suffix == ".csv" else ()
    except (ValueError, KeyError):
        # A disk can break a file. What it named is still counted as of no class.
        return ()


def _read(path):
    # A class may be called "NA" or "007".
    text = {"path": str, "class_name": str}
    return pd.read_csv(path, encoding="utf-8", keep_default_na=False, dtype=text)
