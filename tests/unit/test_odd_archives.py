"""Archives as other systems and programs write them, and files that are no archives."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib

import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.data.archives import extract

CONTENT = b"content of a photograph"


def zip_of(path, members, *, utf8=None, extra=b"", directories=()):
    """A zip of (raw name as bytes): zipfile writes the mark for names that are not ASCII, this does not."""
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate([*directories, *members]):
            member = zipfile.ZipInfo(f"PLACE{index:03}" + "x" * (len(name) - 8))
            assert len(member.filename) == len(name)
            member.extra = extra
            archive.writestr(member, b"" if name in directories else CONTENT)
    content = path.read_bytes()
    for index, name in enumerate([*directories, *members]):
        place = (f"PLACE{index:03}" + "x" * (len(name) - 8)).encode()
        assert content.count(place) == 2
        content = content.replace(place, name)
    path.write_bytes(content)
    return path


def tar_of(path, names, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(CONTENT)
            archive.addfile(member, io.BytesIO(CONTENT))
    return path


def unpacked(archive, folder):
    extract(archive, folder)
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


# Names.


def test_backslashes_separate_folders(tmp_path):
    """Would catch a zip of PowerShell 5 refused, or its folders taken for parts of names."""
    names = [b"photos\\hat\\0.jpg", b"photos\\hat\\deep\\1.jpg"]
    archive = zip_of(tmp_path / "a.zip", names, directories=[b"photos\\hat\\"])
    expected = ["photos/hat/0.jpg", "photos/hat/deep/1.jpg"]
    assert unpacked(archive, tmp_path / "zip") == expected
    archive = tar_of(tmp_path / "a.tar", [name.decode() for name in names])
    assert unpacked(archive, tmp_path / "tar") == expected


@pytest.mark.parametrize(
    "name",
    [
        b"..\\escaped.jpg",
        b"photos\\..\\..\\escaped.jpg",
        b"\\tmp\\escaped.jpg",
        b"\\\\server\\escaped.jpg",
        b"C:\\escaped.jpg",
        b"c:escaped.jpg",
        b"photos/..\\../escaped.jpg",
        "..\\Hüte\\escaped.jpg".encode(),
    ],
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    """Would catch an escape that only the converted name shows."""
    with pytest.raises(StudyError, match="points outside"):
        extract(zip_of(tmp_path / "a.zip", [b"photos\\a.jpg", name]), tmp_path / "in" / "out")
    with pytest.raises(StudyError, match="points outside"):
        extract(tar_of(tmp_path / "a.tar", [name.decode()]), tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "a.zip", "in"]
    assert list((tmp_path / "in").iterdir()) == []


def test_two_spellings_of_one_name_are_refused(tmp_path):
    """Would catch a file that another member replaces."""
    archive = zip_of(tmp_path / "a.zip", [b"photos\\a.jpg", b"photos/a.jpg"])
    with pytest.raises(StudyError, match="cannot be unpacked"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("photos/Hüte.jpg".encode(), "photos/Hüte.jpg"),
        ("photos/Hu\u0308te.jpg".encode(), "photos/Hu\u0308te.jpg"),
        ("photos/帽子.jpg".encode(), "photos/帽子.jpg"),
        ("photos\\Grünfink.jpg".encode(), "photos/Grünfink.jpg"),
        ("photos/Hüte.jpg".encode("cp437"), "photos/Hüte.jpg"),
        (b"photos/plain.jpg", "photos/plain.jpg"),
    ],
)
def test_names_without_the_mark(tmp_path, raw, expected):
    """Would catch the UTF-8 names of macOS read as code page 437, or the other way round."""
    assert unpacked(zip_of(tmp_path / "a.zip", [raw]), tmp_path / "out") == [expected]


def test_names_with_the_mark(tmp_path):
    """Would catch a marked name decoded a second time."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("photos/Hüte ├╝.jpg", CONTENT)
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == ["photos/Hüte ├╝.jpg"]


def test_name_in_an_extra_field(tmp_path):
    """Would catch the name that a packer of Windows keeps as UTF-8 beside the old one."""
    raw, name = b"photos/H?te_.jpg", "photos/Ηüte.jpg".encode()
    for crc, expected in ((zlib.crc32(raw), "photos/Ηüte.jpg"), (1, "photos/H?te_.jpg")):
        field = struct.pack("<BL", 1, crc) + name
        extra = struct.pack("<HH", 0x7075, len(field)) + field
        archive = zip_of(tmp_path / f"{crc}.zip", [raw], extra=extra)
        assert unpacked(archive, tmp_path / f"out{crc}") == [expected]


# What is neither tar nor zip.


def zip_bytes():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", CONTENT * 100)
    return stream.getvalue()


def tar_bytes():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("a.jpg")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return stream.getvalue()


OTHERS = {
    "a.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive; unpack it"),
    "a.rar": (b"Rar!\x1a\x07\x01\0" + bytes(100), "a RAR archive; unpack it"),
    "a.tar.zst": (b"\x28\xb5\x2f\xfd" + bytes(100), "compressed with zstd"),
    "a.tar.lz4": (b"\x04\x22\x4d\x18" + bytes(100), "compressed with lz4"),
    "page.zip": (b"\n <!DOCTYPE html>\n<html><body>Sign in", "an HTML page, perhaps a login"),
    "page2.zip": ("\ufeff<html>".encode(), "an HTML page"),
    "page3.zip": ("<html>".encode("utf-16"), "an HTML page"),
    "error.zip": (b'{"error": "not found"}', "a JSON text"),
    "error.xml": (b"<?xml version='1.0'?><Error/>", "an XML or HTML text"),
    "empty.zip": (b"", "empty; download"),
    "t.csv": (b"path,label\na.jpg,x\n", r"perhaps a table; .*dataset\.format to csv"),
    "names.txt": (b"a photograph\n", "a text"),
    "lfs.zip": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "a.jpg": (b"\xff\xd8\xff\xe0" + bytes(100), "an image; give the folder"),
    "a.pdf": (b"%PDF-1.7", "a PDF"),
    "one.gz": (gzip.compress(CONTENT * 50), "compressed with gzip, but no tar archive is in it"),
    "one.bz2": (bz2.compress(CONTENT * 50), "compressed with bzip2, but no tar archive"),
    "one.xz": (lzma.compress(CONTENT * 50), "compressed with xz, but no tar archive"),
    "cut.zip": (zip_bytes()[:100], "a zip archive that is truncated"),
    "bad.tar": (b"x" + tar_bytes()[1:], "a tar archive that is damaged"),
    "noise.bin": (bytes(range(256)) * 4, "of an unknown kind"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_archive_is_named(tmp_path, name):
    """Would catch tarfile's list of methods in place of what the file is and what to do."""
    content, words = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StudyError, match=rf"{name}: neither a zip nor a tar archive.*{words}"):
        extract(tmp_path / name, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_compression_that_python_lacks_is_named_with_advice(tmp_path):
    """Would catch a bare "not supported" for a large zip of Windows (Deflate64)."""
    content = zip_bytes()
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    changed = bytearray(content)
    changed[local + 8] = changed[central + 10] = 9
    (tmp_path / "a.zip").write_bytes(changed)
    with pytest.raises(StudyError, match=r"a\.zip: cannot be unpacked: .*; unpack it with"):
        extract(tmp_path / "a.zip", tmp_path / "out")


def test_encrypted_zip_is_named(tmp_path):
    """Would catch a traceback for an archive with a password."""
    content = bytearray(zip_bytes())
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(StudyError, match=r"a\.zip: cannot be unpacked: .*encrypted"):
        extract(tmp_path / "a.zip", tmp_path / "out")
