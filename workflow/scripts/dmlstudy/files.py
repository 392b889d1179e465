"""Files that appear whole or not at all, and their digests."""

import contextlib
import hashlib
import json
import os
from pathlib import Path


class StudyError(Exception):
    """A mistake in data, configuration or files that a person can mend; its text says how."""


@contextlib.contextmanager
def atomic_path(path):
    """Yield a path beside ``path`` to write to; rename it to ``path`` on success, remove it on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path, text):
    """Write ``text`` (UTF-8, line ends as given) to ``path`` in one step."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


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
