"""Fingerprints of local files and data sets by content, remembered so that planning stays quick."""

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path

from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError, file_digest, write_json
from dmlstudy.data.listing import list_rows


def _stamp(status):
    # A copy that keeps times (cp -p) only shows in the time of the change.
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


class _Digests:
    """SHA-256 of files, remembered in a JSON file by size, times and inode.

    Where that file cannot be written, digests are computed each time.
    """

    def __init__(self, memory):
        self.memory = Path(memory)
        try:
            known = json.loads(self.memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        self.known, self.fresh = known if isinstance(known, dict) else {}, {}

    def of(self, name, path):
        """Digest of a file; None for what is no regular file. OSError if it cannot be read."""
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return None
        entry = self.known.get(name)
        stamp = _stamp(status)
        if not isinstance(entry, dict) or entry.get("stamp") != stamp:
            entry = {"stamp": stamp, "sha256": file_digest(path)}
        self.fresh[name] = entry
        return entry["sha256"]

    def remember(self):
        if self.fresh != self.known:
            with contextlib.suppress(OSError, StudyError):
                write_json(self.memory, self.fresh)


def fingerprint(source, memory):
    """SHA-256 over a file, or over names and contents of all files in a folder.

    A touched but unchanged file keeps its fingerprint. ``memory``: JSON file that remembers digests, see
    `_Digests`. Pipes, sockets and devices are left out. Raises StudyError if there is nothing at
    ``source``, or a file that cannot be read.
    """
    source, digests = Path(source), _Digests(memory)
    if source.is_file():
        paths = [source]
    elif source.is_dir():
        paths = sorted(
            Path(folder) / name for folder, _, names in os.walk(source) for name in names
        )
    elif source.exists():
        raise StudyError(f"{source}: is neither a file nor a folder but a pipe or a device")
    else:
        raise StudyError(f"{source}: no such file or folder")
    total = hashlib.sha256()
    for path in paths:
        name = path.relative_to(source).as_posix() if path != source else "."
        try:
            digest = digests.of(name, path)
        except OSError as error:
            raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
        if digest is not None:
            # Names that are not UTF-8 are refused later, with a sentence.
            total.update(os.fsencode(name) + f"\0{digest}\n".encode())
    digests.remember()
    return total.hexdigest()


def data_fingerprint(source, memory, *, data_format, csv=None):
    """SHA-256 over what a data set lists: class names, rows of its tables, contents of its images.

    ``source``: an archive, which counts as a whole, or a folder, in which nothing else counts;
    ``data_format``, ``csv``: see `listing.list_rows`; ``memory``: see `fingerprint`. It lies among the
    study's results, which are not listed. A data set that cannot be listed has the fingerprint of the
    reason: what reads it next tells the user. Raises StudyError as `fingerprint` does.
    """
    if not Path(source).is_dir():
        return fingerprint(source, memory)
    try:
        names, rows = list_rows(source, data_format, csv=csv, own=memory)
    except StudyError as error:
        return hashlib.sha256(
            f"not listed: {error}".encode("utf-8", "backslashreplace")
        ).hexdigest()
    digests = _Digests(memory)
    total = hashlib.sha256(canonical_json(names).encode())
    for row in rows:
        try:
            digest = digests.of(row["path"], os.path.join(source, row["path"]))
        except OSError as error:
            digest = f"cannot be read: {error.strerror}"
        total.update(canonical_json({**row, "content": digest}).encode() + b"\n")
    digests.remember()
    return total.hexdigest()
