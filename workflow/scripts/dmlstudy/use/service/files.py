"""Files that a service keeps beside its index: those of `KeptPhotographs`, doubtful answers, a log of answers.

A photograph's file is named by its SHA-256; what a client calls it is only a text.
"""

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dmlstudy.core.files import file_digest, temporary_path
from dmlstudy.use.kept_photographs import KeptPhotographs, files_folder


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
        self.folder = files_folder(folder)
        self.kept = KeptPhotographs(self.folder)
        self.doubts, self.answers = self.folder / "doubts", self.folder / "answers.sqlite"
        for one in (self.kept.photographs, self.kept.removed, self.doubts):
            one.mkdir(parents=True, exist_ok=True)
        # This removes those that killed services left.
        self.incoming = temporary_path(self.folder / "incoming")
        self.incoming.mkdir()

    @contextlib.contextmanager
    def request(self):
        """A folder for the photographs of a request, removed at its end."""
        with tempfile.TemporaryDirectory(dir=self.incoming) as folder:
            yield Path(folder)

    def keep(self, photograph, path):
        """Keep an enrolled photograph at ``path``. It is on the disk afterwards."""
        # What a kill leaves half lies among the requests.
        copied = self.incoming / photograph.digest
        copy_durably(photograph.path, copied)
        os.replace(copied, path)

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
