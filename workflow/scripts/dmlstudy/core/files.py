"""Atomic writing of files, and file digests."""

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

# Errors of a disk, not of one file.
REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
}


class StudyError(Exception):
    """An error in data, configuration or files that a user can fix; the text says how."""


@contextlib.contextmanager
def writing(path):
    """Turn a full or read-only disk into a StudyError that names ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        raise StudyError(f"{path}: cannot be written: {REFUSALS[error.errno]}") from error


def temporary_path(path):
    """A path in the same folder as ``path``: this process writes to it and then renames it.

    Temporary files of ``path`` that killed processes of this machine left behind are removed. Those of
    other machines stay: on a shared file system they may still be in use.
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
    """Whether another process with this id exists."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # Our own process may have got the id of a killed one, especially in a container.
    return process != os.getpid()


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path; on success rename it to ``path``, on failure remove it.

    Raises StudyError, naming ``path``, if the disk is full or read-only.
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
    """Write ``text`` to ``path`` atomically, as UTF-8 with line ends as given."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_json(path, value):
    """Write ``value`` atomically as indented JSON with sorted keys. ValueError for NaN and infinity."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path):
    """The value of a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def file_digest(path, algorithm="sha256"):
    """Hexadecimal digest of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def write_digest(path, digest=None):
    """Write the SHA-256 of ``path`` to ``path.sha256``, in the format of sha256sum.

    ``digest``: hexadecimal, if the caller has computed it already.
    Rules depend on this small file instead of the large one: Snakemake compares small files by content,
    so a large file that was only touched runs nothing again.
    """
    path = Path(path)
    write_text(f"{path}.sha256", f"{digest or file_digest(path)}  {path.name}\n")


def follower(path):
    """The digest file of ``path`` (see `write_digest`), or ``path`` itself if there is none."""
    digest = Path(f"{path}.sha256")
    return digest if digest.is_file() else Path(path)


def refuse_future(paths, folder):
    """Raise StudyError if files have a modification time in the future.

    The current time is that of the file system of ``folder``. Outputs made from such files would be
    older than their inputs; Snakemake would treat the job as failed and remove them.
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
            f"{first}: its modification time is {dates[0]}, but now it is {dates[1]}: the clock was set "
            f"back. Correct the clock, then run: touch {shlex.join(ahead)}"
        )


def refuse_read_only(folder):
    """Raise StudyError if ``folder``, or the folder it would be created in, is not writable."""
    existing = Path(folder).resolve()
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        raise StudyError(f"{existing}: not writable, but the results go to {folder}")
