"""Of the processes that would write the same files, only the newest goes on.

When a workflow engine is killed its jobs go on without it. Started again, it begins the same jobs anew:
the old ones must neither work beside these nor, with an older recipe perhaps, write after them.
"""

import contextlib
import errno
import fcntl
import logging
import os
import socket
import uuid
from pathlib import Path

from dmlstudy.core.files import StudyError, writing

# What file systems say that keep no locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Owner:
    """The newest process of a folder: the file ``owner`` there names it, and it keeps that locked."""

    def __init__(self, folder):
        self.path = Path(folder) / "owner"
        self.token = uuid.uuid4().hex
        self.file = None

    def take(self):
        """Tell a process that owns the folder to end, and wait until it has."""
        with writing(self.path):
            # A process that is done removes the folder, and with it the file that we waited for.
            while not self._locked():
                self.release()
        self.check()

    def _locked(self):
        """Announce this process and wait for the lock; False if the file is no longer that of the path."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return False
        before = os.pread(self.file, 1000, 0)
        os.ftruncate(self.file, 0)
        me = f"{self.token} process {os.getpid()} on {socket.gethostname()}\n"
        os.pwrite(self.file, me.encode(), 0)
        # Over a network others see what is on the server, not what waits to be sent.
        os.fsync(self.file)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning(
                "%s: %s is still at this; it ends with its epoch, then this one goes on",
                self.path.parent,
                _name(before.decode(errors="replace")),
            )
            fcntl.flock(self.file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logging.warning("%s: %s; going on without a lock", self.path, error.strerror)
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.file), os.stat(self.path))
        return False

    def check(self):
        """Raise StudyError if a newer process has come since."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        if not text.startswith(self.token):
            raise StudyError(f"{self.path.parent}: {_name(text)} has taken over; this one ends")

    def release(self):
        if self.file is not None:
            os.close(self.file)
            self.file = None


def _name(text):
    """Who an ``owner`` file names."""
    return text.partition("\n")[0].partition(" ")[2] or "another process"


@contextlib.contextmanager
def sole_owner(folder):
    """While inside, this process owns ``folder``, or learns by ``check()`` that a newer one does."""
    owner = Owner(folder)
    try:
        owner.take()
        yield owner
    finally:
        owner.release()
