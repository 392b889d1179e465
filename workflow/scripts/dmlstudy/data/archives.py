"""Unpack archives from untrusted sources."""

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dmlstudy.core.files import StudyError, temporary_path, writing

MAX_BYTES = 64 * 2**30
MAX_MEMBER_BYTES = 2 * 2**30
MAX_MEMBERS = 2_000_000
# Images hardly compress. An archive that unpacks to more than MAX_RATIO times its size, plus ALLOWANCE
# for small archives, is probably a decompression bomb.
MAX_RATIO = 100
ALLOWANCE = 64 * 2**20


def _target(folder, name, archive):
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or ":" in name[:3]:
        raise StudyError(f"{archive}: member {name!r} points outside the archive")
    return folder.joinpath(*parts)


class _StrictTarInfo(tarfile.TarInfo):
    """Raises ReadError for a broken or missing header; tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"broken or truncated: {error}") from None


def _tar_members(archive):
    with tarfile.open(archive, "r:*", tarinfo=_StrictTarInfo) as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                raise StudyError(
                    f"{archive}: member {member.name!r} is a link or a device, not a file"
                )
            yield member.name, member.size, lambda member=member: tar.extractfile(member)
        # The checksum of a compressed stream comes after the last member: read to the end to verify it.
        while tar.fileobj.read(1 << 20):
            pass


def _zip_members(archive):
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            if member.is_dir():
                continue
            # The upper half of external_attr is the Unix mode; 0o120000 marks a symbolic link.
            if (member.external_attr >> 16) & 0o170000 not in (0, 0o100000):
                raise StudyError(
                    f"{archive}: member {member.filename!r} is a link or a device, not a file"
                )
            yield member.filename, member.file_size, lambda member=member: opened.open(member)


def extract(archive, folder, *, max_bytes=MAX_BYTES, progress=None):
    """Unpack a tar (any compression) or zip file into ``folder``, which appears complete or not at all.

    An existing folder is replaced. Only regular files are unpacked. Raises StudyError, naming archive
    and member, for links, devices, members that point outside, members above 2 GB, more than
    ``max_bytes`` in total, more than ``MAX_RATIO`` times the archive's size, and truncated archives.
    Limits are checked before a member is written. ``progress(bytes)`` is called after each member.
    """
    folder = Path(folder)
    temporary = temporary_path(folder)
    temporary.mkdir(parents=True)
    try:
        # A tar file whose last member is a zip file also looks like a zip file.
        zipped = zipfile.is_zipfile(archive) and not tarfile.is_tarfile(archive)
        members = _zip_members if zipped else _tar_members
        max_bytes = min(max_bytes, MAX_RATIO * os.path.getsize(archive) + ALLOWANCE)
        total = count = 0
        for name, size, opened in members(archive):
            target = _target(temporary, name, archive)
            total, count = total + size, count + 1
            if size > MAX_MEMBER_BYTES or total > max_bytes or count > MAX_MEMBERS:
                raise StudyError(f"{archive}: too large at member {name!r}; nothing was unpacked")
            target.parent.mkdir(parents=True, exist_ok=True)
            with writing(folder), opened() as source, open(target, "xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            if target.stat().st_size != size:
                raise StudyError(f"{archive}: member {name!r} is shorter than the archive says")
            if progress:
                progress(size)
        if not count:
            raise StudyError(f"{archive}: contains no files")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        OSError,
        RuntimeError,  # encrypted zip file, or unknown compression
    ) as error:
        raise StudyError(f"{archive}: cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
