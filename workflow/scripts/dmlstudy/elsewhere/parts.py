"""Files in one archive that is cut into parts of a limited size, for machines that take no large files.

A set of parts has an index, NAME.json, with the size and SHA-256 of each part, NAME.1, NAME.2, …
"""

import hashlib
import io
import shutil
import tarfile
from pathlib import Path

from dmlstudy.core.files import StudyError, atomic_path, file_digest, read_json, write_json

# What an entry of an archive takes beside its content: a header, and padding to whole blocks.
ENTRY_BYTES = 2 * tarfile.BLOCKSIZE
END_BYTES = tarfile.RECORDSIZE


class _Parts(io.RawIOBase):
    """A stream that goes on in the next file once ``limit`` bytes are in one."""

    def __init__(self, place, limit):
        self.place, self.limit = place, limit
        self.parts, self.stream, self.left = [], None, 0

    def writable(self):
        return True

    def write(self, content):
        content = memoryview(content).cast("B")
        total = len(content)
        while content:
            if not self.left:
                self.finish()
                path = self.place(len(self.parts) + 1)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.parts.append({"name": path.name, "bytes": 0})
                self.stream = open(path, "wb")  # noqa: SIM115 (`finish` closes it)
                self.digest, self.left = hashlib.sha256(), self.limit
            now = content[: self.left]
            self.stream.write(now)
            self.digest.update(now)
            self.parts[-1]["bytes"] += len(now)
            self.left -= len(now)
            content = content[len(now) :]
        return total

    def finish(self):
        if self.stream:
            self.stream.close()
            self.parts[-1]["sha256"] = self.digest.hexdigest()
            self.stream = None


def write_parts(folder, name, files, limit, *, apart=False, about=None):
    """Write ``files`` to parts in ``folder``; returns their index.

    ``files``: {name in the archive: path}, in order. ``limit``: bytes of a part at most. ``about``:
    plain values for the index. ``apart``: each part lies in a folder of its own, part_1, part_2, …, with
    the index, so that each folder can be taken along by itself. An existing set of the same name is
    replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob(f"{name}.*"), *(folder.glob("part_*") if apart else [])]:
        shutil.rmtree(old) if old.is_dir() else old.unlink()

    def place(number):
        return (folder / f"part_{number}" if apart else folder) / f"{name}.{number}"

    stream = _Parts(place, limit)
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for member, path in files.items():
            entry = archive.gettarinfo(str(path), member)
            # The same files give the same bytes, whoever carries them.
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            with open(path, "rb") as content:
                archive.addfile(entry, content)
    stream.finish()
    index = {"parts": stream.parts, **(about or {})}
    write_json(folder / f"{name}.json", index)
    if apart:
        for number in range(1, len(stream.parts) + 1):
            write_json(folder / f"part_{number}" / f"{name}.json", index)
    return index


def size_of(path):
    """Bytes that a file takes in an archive, at most."""
    return Path(path).stat().st_size + ENTRY_BYTES


def take(source, folder, index):
    """Copy the parts of ``index`` that lie in the folder ``source`` to ``folder``; returns how many.

    Raises StudyError for a part whose bytes are not those of the index.
    """
    taken = 0
    for part in index["parts"]:
        path = Path(source) / part["name"]
        if not path.is_file():
            continue
        if path.stat().st_size != part["bytes"] or file_digest(path) != part["sha256"]:
            raise StudyError(f"{path}: damaged on its way; take it along once more")
        with atomic_path(Path(folder) / part["name"]) as temporary:
            shutil.copyfile(path, temporary)
        taken += 1
    return taken


def missing(folder, index):
    """Names of the parts of ``index`` that are not in ``folder``."""
    return [part["name"] for part in index["parts"] if not (Path(folder) / part["name"]).is_file()]


def unpack(folder, index, target):
    """Unpack the parts of ``index`` in ``folder`` to the new folder ``target``.

    Raises StudyError for a part that is missing or damaged. Nothing is left behind if it fails.
    """
    absent = missing(folder, index)
    if absent:
        raise StudyError(f"{folder}: {', '.join(absent)} missing")
    target = Path(target)
    temporary = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with (
            _Joined(folder, index) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            archive.extractall(temporary, filter="data")
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Joined(io.RawIOBase):
    """The parts of an index as one stream; StudyError where the bytes are not those of the index."""

    def __init__(self, folder, index):
        self.pending = [(Path(folder) / part["name"], part["sha256"]) for part in index["parts"]]
        self.stream = None

    def readable(self):
        return True

    def readinto(self, buffer):
        while True:
            if self.stream is None:
                if not self.pending:
                    return 0
                self.path, self.wanted = self.pending.pop(0)
                self.stream = open(self.path, "rb")  # noqa: SIM115 (closed at its end)
                self.digest = hashlib.sha256()
            count = self.stream.readinto(buffer)
            if count:
                self.digest.update(memoryview(buffer)[:count])
                return count
            self.stream.close()
            self.stream = None
            if self.digest.hexdigest() != self.wanted:
                raise StudyError(f"{self.path}: damaged")

    def close(self):
        if self.stream:
            self.stream.close()
        super().close()


def index_of(folder, name):
    """The index NAME.json in ``folder``; StudyError if there is none."""
    path = Path(folder) / f"{name}.json"
    if not path.is_file():
        raise StudyError(f"{folder}: no {path.name}; is this the folder that was meant?")
    try:
        index = read_json(path)
        named = [part["name"] for part in index["parts"] if part["bytes"] >= 0 and part["sha256"]]
        # It comes from another machine: a part is a file beside it, not one elsewhere.
        right = len(named) == len(index["parts"]) and all(
            Path(one).name == one not in ("", "..") for one in named
        )
    except (ValueError, KeyError, TypeError):
        right = False
    if not right:
        raise StudyError(
            f"{path}: not an index of parts, each with name (of a file beside it), bytes and sha256"
        )
    return index
