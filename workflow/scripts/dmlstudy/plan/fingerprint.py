"""Fingerprints of local files and folders by content, remembered so that planning stays quick."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from dmlstudy.core.files import StudyError, file_digest, write_json


def _stamp(status):
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def fingerprint(source, memory):
    """SHA-256 over names and contents of a file or of all files in a folder.

    A touched but unchanged file keeps its fingerprint. Digests are remembered in the JSON file
    ``memory`` by size, time and inode; where that cannot be written, they are computed each time.
    Raises StudyError if there is nothing at ``source``, or a file that cannot be read.
    """
    source, memory = Path(source), Path(memory)
    if source.is_file():
        paths = [source]
    elif source.is_dir():
        paths = sorted(
            Path(folder) / name for folder, _, names in os.walk(source) for name in names
        )
    else:
        raise StudyError(f"{source}: no such file or folder")
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    fresh = {}
    total = hashlib.sha256()
    for path in paths:
        name = path.relative_to(source).as_posix() if path != source else "."
        entry = known.get(name)
        try:
            stamp = _stamp(path.stat())
            if not entry or entry["stamp"] != stamp:
                entry = {"stamp": stamp, "sha256": file_digest(path)}
        except OSError as error:
            raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
        fresh[name] = entry
        # Names that are not UTF-8 are refused later, with a sentence.
        total.update(os.fsencode(name) + f"\0{entry['sha256']}\n".encode())
    if fresh != known:
        with contextlib.suppress(OSError):
            write_json(memory, fresh)
    return total.hexdigest()
