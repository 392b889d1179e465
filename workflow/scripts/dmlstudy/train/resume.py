"""The state of a training after an epoch, in one file: an interrupted training continues from it."""

import contextlib
import hashlib
import logging
import os
import shutil
import zipfile
from pathlib import Path

import torch

from dmlstudy.compute.checkpoints import write_tensors
from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import atomic_path, file_digest, refuse_future
from dmlstudy.core.ownership import sole_owner

FORMAT = 1


def training_key(recipe, code, files):
    """Digest of everything that a training depends on: 64 hexadecimal digits.

    ``recipe``: a dictionary; ``code``: digest of the code; ``files``: {what it is: path}. Only the
    content of files counts, not their path.
    """
    contents = {name: file_digest(path) for name, path in files.items()}
    text = canonical_json({"recipe": recipe, "code": code, "files": contents})
    return hashlib.sha256(text.encode()).hexdigest()


class SavedState:
    """The state of one training in the file ``path``, replaced as a whole.

    ``content``: what an interrupted attempt stored, or None. State with another ``key``, and a file
    that cannot be read, are removed: the training then starts from the beginning. ``every``: store
    after so many epochs; ``owner``: an `ownership.Owner`, or None where nobody else writes;
    ``inputs``: files that outputs must not be older than.
    """

    def __init__(self, path, key, every=1, owner=None, inputs=()):
        self.path, self.key, self.every = Path(path), key, every
        self.owner, self.inputs = owner, inputs
        self.content = None
        try:
            found = self._read()
        except FileNotFoundError:
            return
        except Exception as error:
            self.discard(f"cannot be read ({error})")
            return
        if found.get("format") != FORMAT or found.get("key") != key:
            self.discard("is of another recipe, other code or other data")
            return
        self.content = found["content"]

    def _read(self):
        # torch does not look at the archive's checksums.
        with zipfile.ZipFile(self.path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} is damaged")
        found = torch.load(self.path, map_location="cpu", weights_only=True)
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found

    @property
    def curve(self):
        """Rows of the stored curve."""
        return [] if self.content is None else list(self.content["trainer"]["curve"])

    def save(self, content):
        """Store tensors and plain values on the disk; StudyError if it is full."""
        if self.owner is not None:
            self.owner.check()
        whole = {"format": FORMAT, "key": self.key, "content": content}
        with atomic_path(self.path) as temporary, open(temporary, "wb") as stream:
            write_tensors(whole, stream)
            stream.flush()
            os.fsync(stream.fileno())
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            # Not every file system can do this for a folder.
            with contextlib.suppress(OSError):
                os.fsync(folder)
        finally:
            os.close(folder)

    def check_outputs(self):
        """Raise StudyError if a newer process owns the run, or if an input is dated in the future."""
        if self.owner is not None:
            self.owner.check()
        refuse_future(self.inputs, self.path.parent)

    def discard(self, why):
        """Remove the stored state and log the reason."""
        logging.warning("%s: %s; starting from the beginning", self.path, " ".join(why.split()))
        self.path.unlink(missing_ok=True)
        self.content = None


@contextlib.contextmanager
def saved_state(folder, recipe, code, files, every=1):
    """The `SavedState` of a training in ``folder``. The folder is removed if the block succeeds.

    If another process still trains for the same folder, it is told to end, and this one waits. Arguments
    as for `training_key`. Call `check_outputs` before outputs are written.
    """
    files = {name: path for name, path in files.items() if path}
    with sole_owner(folder) as owner:
        refuse_future(files.values(), folder)
        key = training_key(recipe, code, files)
        yield SavedState(Path(folder) / "training.pt", key, every, owner, list(files.values()))
        shutil.rmtree(folder, ignore_errors=True)
