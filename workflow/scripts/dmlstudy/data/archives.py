"""Unpack archives from untrusted sources."""

import contextlib
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from dmlstudy.core.files import StudyError, temporary_path, writing
from dmlstudy.data.archive_kinds import describe

MAX_BYTES = 64 * 2**30
MAX_MEMBER_BYTES = 2 * 2**30
MAX_MEMBERS = 2_000_000
# Images hardly compress. An archive that unpacks to more than MAX_RATIO times its size, plus ALLOWANCE
# for small archives, is probably a decompression bomb.
MAX_RATIO = 100
ALLOWANCE = 64 * 2**20
# Bit 11 of a zip member's flags: its name is UTF-8.
UTF8_NAME = 0x800
# Header of the extra field in which some programs store the name as UTF-8.
UNICODE_PATH = 0x7075


def _target(folder, name, archive):
    """The path in ``folder`` of a member, whose name has slashes. StudyError if it points outside."""
    parts = PurePosixPath(name).parts
    drive = len(name) > 1 and name[1] == ":" and name[0].isalpha()
    if not parts or name.startswith("/") or "\0" in name or ".." in parts or drive:
        raise StudyError(f"{archive}: member {name!r} points outside the archive")
    return folder.joinpath(*parts)


def _slashes(name):
    """A member's name with slashes. Some programs of Windows (PowerShell 5) write backslashes."""
    return name.replace("\\", "/")


def _zip_name(member):
    """A zip member's name as text, with slashes.

    zipfile reads a name without the UTF-8 mark as code page 437. Programs of macOS and Linux write
    UTF-8 without the mark, and some write the name into an extra field.
    """
    name = member.orig_filename
    if not member.flag_bits & UTF8_NAME:
        raw = name.encode("cp437")
        stored = _unicode_path(member.extra, raw)
        with contextlib.suppress(UnicodeDecodeError):
            name = (raw if stored is None else stored).decode("utf-8")
    return _slashes(name)


def _unicode_path(extra, raw):
    """The UTF-8 name in a member's extra field if it belongs to the name ``raw``, else None."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        # Version 1, then the CRC of the name that the field replaces.
        if kind == UNICODE_PATH and field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
            return field[5:]
    return None


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
            name = _slashes(member.name)
            if member.isdir():
                continue
            if not member.isreg():
                raise StudyError(f"{archive}: member {name!r} is a link or a device, not a file")
            yield name, member.size, lambda member=member: tar.extractfile(member)
        # The checksum of a compressed stream comes after the last member: read to the end to verify it.
        while tar.fileobj.read(1 << 20):
            pass


def _zip_members(archive):
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            name = _zip_name(member)
            if name.endswith("/"):
                continue
            # The upper half of external_attr is the Unix mode; 0o120000 marks a symbolic link.
            if (member.external_attr >> 16) & 0o170000 not in (0, 0o100000):
                raise StudyError(f"{archive}: member {name!r} is a link or a device, not a file")
            yield name, member.file_size, lambda member=member: opened.open(member)


def extract(archive, folder, *, max_bytes=MAX_BYTES, progress=None):
    """Unpack a tar (any compression) or zip file into ``folder``, which appears complete or not at all.

    An existing folder is replaced. Only regular files are unpacked. Backslashes in names separate
    folders. Names in a zip file are UTF-8 if they are valid UTF-8, else code page 437. Raises
    StudyError, naming archive and member, for a file of another kind, links, devices, members that
    point outside, members above 2 GB, more than ``max_bytes`` in total, more than ``MAX_RATIO`` times
    the archive's size, and truncated archives.
    Limits are checked before a member is written. ``progress(bytes)`` is called after each member.
    """
    folder = Path(folder)
    temporary = temporary_path(folder)
    temporary.mkdir(parents=True)
    try:
        # A tar file whose last member is a zip file also looks like a zip file.
        if tarfile.is_tarfile(archive):
            members = _tar_members
        elif zipfile.is_zipfile(archive):
            members = _zip_members
        else:
            raise StudyError(
                f"{archive}: neither a zip nor a tar archive, as dataset.source must be; it is "
                f"{describe(archive)}"
            )
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
    except StudyError:
        raise
    except NotImplementedError as error:
        raise StudyError(
            f"{archive}: cannot be unpacked: {error}; unpack it with the program that made it, and give "
            "the folder"
        ) from error
    # The readers of damaged archives raise many types of exceptions (OSError, struct.error, zlib.error,
    # RuntimeError for an encrypted file, UnicodeDecodeError, …).
    except Exception as error:
        raise StudyError(
            f"{archive}: cannot be unpacked: {error or type(error).__name__}"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
