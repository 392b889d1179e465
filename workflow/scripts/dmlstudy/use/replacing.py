"""Replace a folder at one moment: a program that is killed leaves the old content or the new one."""

import ctypes
import glob
import os
import shutil
from pathlib import Path

# Of linux/fcntl.h and linux/fs.h: paths are relative to the working directory; exchange two names.
AT_FDCWD, RENAME_EXCHANGE = -100, 2


def replace_folder(new, folder):
    """Let ``folder`` be what ``new`` is, a folder beside it; what it held before is removed.

    What was written reaches the disk before. Where the system cannot exchange two names, the old folder is
    renamed first; `put_back` mends it if the program is killed in between.
    """
    new, folder = Path(new), Path(folder)
    for path in [*new.iterdir(), new]:
        _flush(path)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        if not _exchanged(new, folder):
            os.rename(folder, old)
            try:
                os.rename(new, folder)
            except BaseException:
                os.rename(old, folder)
                raise
    else:
        os.rename(new, folder)
    _flush(folder.parent)
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def put_back(folder):
    """Mend a folder that was being replaced when the program was killed. Call it while nobody else writes."""
    folder = Path(folder)
    beginning, ending = f".{folder.name}.", ".old"
    left = [
        path
        for path in folder.parent.glob(f"{glob.escape(beginning)}*{ending}")
        # Not those of a folder whose name begins with this one's.
        if path.name[len(beginning) : -len(ending)].isdigit()
    ]
    left.sort(key=lambda path: path.stat().st_mtime)
    if left and not folder.exists():
        os.rename(left.pop(), folder)
    for path in left:
        shutil.rmtree(path, ignore_errors=True)


def _exchanged(one, other):
    """Exchange the names of two folders; False if the system or the file system cannot."""
    exchange = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if exchange is None:
        return False
    names = os.fsencode(one), os.fsencode(other)
    return exchange(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0


def _flush(path):
    """Wait until a file or the names in a folder are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
