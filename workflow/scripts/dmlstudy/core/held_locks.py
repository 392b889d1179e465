"""Whether a process holds the lock of a file: the system's own word, also after a kill. Takes no lock for long."""

import errno
import fcntl
import os

from dmlstudy.core.ownership import NO_LOCKS


def is_held(path):
    """Whether some process, on any machine that shares the file's disk, holds the lock of ``path``.

    False if there is no such file; None where the file system has no locks or the file cannot be read.
    The file is not changed. Its lock is shared for a moment, so that a process that asks for it meanwhile
    waits for microseconds.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno in (*NO_LOCKS, errno.EBADF, errno.EINVAL):
            return None
        raise
    finally:
        os.close(file)
    return False
