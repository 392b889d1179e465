"""Only the newest of several processes that write the same files may continue.

If Snakemake is killed, its jobs keep running. A restart starts the same jobs again. The old jobs must not
run beside the new ones, and must not write their results (perhaps of an older recipe) after them.
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

# Errors of file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Owner:
    """The newest process that works in a folder. It is named in the file ``owner`` and holds its lock."""

    def __init__(self, folder):
        self.path = Path(folder) / "owner"
        self.token = uuid.uuid4().hex
        self.file = None

    def take(self):
        """Tell the process that owns the folder to end, and wait for it."""
        with writing(self.path):
            # A finished process removes the folder, and so the file whose lock we waited for.
            while not self._locked():
                self.release()
        self.check()

    def _locked(self):
        """Write our name to the file and wait for its lock; False if the file was replaced meanwhile."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return False
        before = os.pread(self.file, 1000, 0)
        os.ftruncate(self.file, 0)
        me = f"{self.token} process {os.getpid()} on {socket.gethostname()}\n"
        os.pwrite(self.file, me.encode(), 0)
        # On a network file system other machines only see what was sent to the server.
        os.fsync(self.file)
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.warning(
                "%s: %s is still running; it ends after its current epoch, then this process continues",
                self.path.parent,
                _name(before.decode(errors="replace")),
            )
            fcntl.flock(self.file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            logging.warning("%s: %s; continuing without a lock", self.path, error.strerror)
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self.file), os.stat(self.path))
        return False

    def check(self):
        """Raise StudyError if a newer process has taken the folder over."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            text = ""
        if not text.startswith(self.token):
            raise StudyError(f"{self.path.parent}: {_name(text)} has taken over; this process ends")

    def release(self):
        if self.file is not None:
            os.close(self.file)
            self.file = None


def _name(text):
    """The process that an ``owner`` file names."""
    return text.partition("\n")[0].partition(" ")[2] or "another process"


@contextlib.contextmanager
def sole_owner(folder):
    """Own ``folder`` while inside. The yielded owner's ``check()`` raises if a newer process takes over."""
    owner = Owner(folder)
    try:
        owner.take()
        yield owner
    finally:
        owner.release()
