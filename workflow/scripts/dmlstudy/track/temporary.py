"""The tracker's temporary files: in a folder of their own below the results, never in the system's.

W&B makes folders for temporary files while it is imported and used, and removes them when Python ends
cleanly. The tracker's processes end by `os._exit`, or are killed. So each has one folder for all of its
temporary files. The process itself removes it, or, after a kill, the process that started it or the next
tracker that starts.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

PREFIX = ".temporary."
LOCK = "lock"


def sweep(root):
    """Remove the temporary folders below ``root`` whose processes have ended. Never fails.

    A process holds a lock as long as it lives, so a killed one is recognised on any machine, and also
    if its id is in use again.
    """
    for folder in Path(root).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), open(folder / LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


def _locked_folder(root):
    """A new folder below ``root`` and its lock, the descriptor of an open file."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=Path(root).absolute()))
        with contextlib.suppress(FileNotFoundError):
            lock = os.open(folder / LOCK, os.O_WRONLY | os.O_CREAT)
            # On a file system without locks, the folder of a killed process stays.
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have swept the folder before it was locked.
            if (folder / LOCK).exists():
                return folder, lock
            os.close(lock)


@contextlib.contextmanager
def temporary_folder(root):
    """Inside, this process and those that it starts put temporary files into a folder below ``root``.

    The folder is removed at the end, and those of killed processes at the start. Yields its path. Raises
    OSError if it cannot be made.
    """
    sweep(root)
    folder, lock = _locked_folder(root)
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        variable, tempfile.tempdir = before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
