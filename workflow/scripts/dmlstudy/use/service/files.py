"""Files that a service keeps beside its index: enrolled photographs, doubtful answers, removed classes.

A photograph's file is named by its SHA-256; what a client calls it is only a text.
"""

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, file_digest, temporary_path, write_json
from dmlstudy.data.image_files import EXTENSIONS
from dmlstudy.use.photographs import stored_path


@dataclass(frozen=True)
class Photograph:
    """A photograph of a request: ``path`` of its file here, ``name`` that the client gave, ``digest``."""

    path: Path
    name: str
    digest: str

    @classmethod
    def of(cls, path, name):
        return cls(Path(path), name, file_digest(path))


class Files:
    """The files of the index ``folder``, in a folder beside it."""

    def __init__(self, folder):
        folder = Path(folder)
        self.folder = folder.with_name(f"{folder.name}_files")
        self.photographs, self.doubts = self.folder / "photographs", self.folder / "doubts"
        self.removed, self.answers = self.folder / "removed", self.folder / "answers.sqlite"
        for one in (self.photographs, self.doubts, self.removed):
            one.mkdir(parents=True, exist_ok=True)
        # This removes those that killed services left.
        self.incoming = temporary_path(self.folder / "incoming")
        self.incoming.mkdir()

    @contextlib.contextmanager
    def request(self):
        """A folder for the photographs of a request, removed at its end."""
        with tempfile.TemporaryDirectory(dir=self.incoming) as folder:
            yield Path(folder)

    def keep(self, photograph):
        """Keep an enrolled photograph; returns its path for the index. It is on the disk afterwards."""
        ending = Path(photograph.name).suffix.lower()
        name = photograph.digest + (ending if ending in EXTENSIONS else ".img")
        path = self.photographs / name
        copy_durably(photograph.path, path)
        return stored_path(path)

    def drop(self, paths, used):
        """Remove kept photographs ``paths`` (as the index has them), but none of ``used`` or of a removed class."""
        used = set(used)
        for table in self.removed.glob("*.csv"):
            used.update(_read(table)["path"])
        for path in set(paths) - used:
            if Path(path).parent == Path(stored_path(self.photographs)):
                Path(path).unlink(missing_ok=True)

    def set_aside(self, change, embeddings, table, digests):
        """Keep what a change removes from the index, so that it can be undone."""
        np.save(self.removed / f"{change}.npy", embeddings)
        write_json(self.removed / f"{change}.json", {str(one): digests[one] for one in digests})
        table.to_csv(self.removed / f"{change}.csv", index=False, encoding="utf-8")

    def taken_back(self, change):
        """(embeddings, table, digests) of `set_aside`; StudyError if they are gone."""
        try:
            embeddings = np.load(self.removed / f"{change}.npy", allow_pickle=False)
            digests = json.loads((self.removed / f"{change}.json").read_text(encoding="utf-8"))
            table = _read(self.removed / f"{change}.csv")
        except (OSError, ValueError) as error:
            raise StudyError(f"what was removed cannot be read any more: {error}") from None
        return embeddings, table, {int(one): digest for one, digest in digests.items()}

    def forget(self, change, used):
        """Remove what a change had set aside, with its photographs unless they are among ``used``."""
        table = self.removed / f"{change}.csv"
        paths = _read(table)["path"] if table.exists() else ()
        for ending in ("npy", "json", "csv"):
            (self.removed / f"{change}.{ending}").unlink(missing_ok=True)
        self.drop(paths, used)

    def close(self):
        shutil.rmtree(self.incoming, ignore_errors=True)


def copy_durably(source, target):
    """Copy a file; the copy appears whole, and is on the disk afterwards."""
    temporary = Path(f"{target}.{os.getpid()}.tmp")
    with open(source, "rb") as read, open(temporary, "wb") as write:
        shutil.copyfileobj(read, write)
        write.flush()
        os.fsync(write.fileno())
    os.replace(temporary, target)


def _read(path):
    return pd.read_csv(path, encoding="utf-8", keep_default_na=False)
