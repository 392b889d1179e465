"""Files that appear whole or not at all, and their digests."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import shlex
import shutil
import socket
import tempfile
from datetime import datetime
from pathlib import Path

# Why a disk takes nothing, whatever the file.
REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class StudyError(Exception):
    """A mistake in data, configuration or files that a person can mend; its text says how."""


@contextlib.contextmanager
def writing(path):
    """While inside, a disk that takes nothing raises StudyError, which names ``path`` and says why."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StudyError(f"{path}: cannot be written: {REFUSALS[error.errno]}") from error


def temporary_path(path):
    """A name beside ``path`` for this process to write to before it renames.

    What processes of this machine that were killed left under such names is removed; whether those of
    other machines still write to a shared file system nobody knows here.
    """
    path = Path(path)
    beginning = f".{path.name}.{_machine()}-"
    for left in path.parent.glob(f"{glob.escape(beginning)}*.tmp"):
        owner = left.name[len(beginning) : -len(".tmp")]
        if owner.isdigit() and not _at_work(int(owner)):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    return path.with_name(f"{beginning}{os.getpid()}.tmp")


def _machine():
    return socket.gethostname().partition(".")[0]


def _at_work(process):
    """Whether there is another process of this number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # The number of one that was killed may be ours by now, in a container above all.
    return process != os.getpid()


@contextlib.contextmanager
def atomic_path(path):
    """Yield a path beside ``path`` to write to; rename it to ``path`` on success, remove it on failure.

    Raises StudyError, naming ``path``, if the disk is full or must not be written to.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_path(path)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path, text):
    """Write ``text`` (UTF-8, line ends as given) to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path, value):
    """Write ``value`` as indented JSON with sorted keys; NaN and infinity raise ValueError."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path):
    return json.loads(Path(path).read_text(encoding="utf-8"))


def file_digest(path, algorithm="sha256"):
    """Hexadecimal digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def write_digest(path, digest=None):
    """Write the SHA-256 of ``path`` to ``path.sha256``, in the format of sha256sum.

    ``digest``: hexadecimal, where it was computed while the file was written.
    Rules follow a large file through this small one: the workflow engine compares small files by
    content, so that a large file that was only touched makes nothing run again.
    """
    path = Path(path)
    write_text(f"{path}.sha256", f"{digest or file_digest(path)}  {path.name}\n")


def follower(path):
    """The small file through which a large one is followed (`write_digest`); itself where there is none."""
    digest = Path(f"{path}.sha256")
    return digest if digest.is_file() else Path(path)


def refuse_future(paths, folder):
    """Raise StudyError if files were written, as their dates say, later than now.

    Now is the time of the file system of ``folder``. What is made of such files would be older than they
    are: the workflow engine takes it for failed and removes it, however long it took.
    """
    with writing(folder), tempfile.TemporaryFile(dir=folder) as stream:
        now = os.fstat(stream.fileno()).st_mtime
    ahead = {str(path): Path(path).stat().st_mtime for path in paths}
    ahead = {path: date for path, date in ahead.items() if date > now}
    if ahead:
        first = next(iter(ahead))
        dates = [
            f"{datetime.fromtimestamp(date):%Y-%m-%d %H:%M:%S}" for date in (ahead[first], now)
        ]
        raise StudyError(
            f"{first}: was written {dates[0]}, and now it is {dates[1]}: the clock has been set back. "
            f"Once it is right: touch {shlex.join(ahead)}"
        )


def refuse_read_only(folder):
    """Raise StudyError if ``folder``, or what it would have to be made in, cannot be written to."""
    existing = Path(folder).resolve()
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        raise StudyError(f"{existing}: cannot be written to; results are to be made in {folder}")
