"""Say what a file is that is neither a tar nor a zip archive, by its first bytes."""

import bz2
import gzip
import lzma
import zlib
from pathlib import Path

# Enough for the head of a page and for a tar header.
HEAD = 1024
REPACK = "unpack it, and give the folder or pack it as zip or tar"
SIGNATURES = (
    (b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {REPACK}"),
    (b"Rar!\x1a\x07", f"a RAR archive; {REPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd; {REPACK} (gzip, bzip2 or xz)"),
    (b"\x04\x22\x4d\x18", f"compressed with lz4; {REPACK} (gzip, bzip2 or xz)"),
    (b"LZIP", f"compressed with lzip; {REPACK} (gzip, bzip2 or xz)"),
    (b"\x1f\x9d", f"compressed with compress; {REPACK} (gzip, bzip2 or xz)"),
    (b"MSCF", f"a cabinet archive; {REPACK}"),
    (b"xar!", f"a xar archive; {REPACK}"),
    (b"!<arch>", f"an ar archive; {REPACK}"),
    (b"PK\x07\x08", "one part of a zip archive in several parts; join them first"),
    (b"PK\x03\x04", "a zip archive that is truncated or damaged; download or copy it again"),
    (b"\x89HDF", f"an HDF5 file; {REPACK}"),
    (b"SQLite format 3", "a database; export its images into a folder"),
    (b"%PDF", "a PDF document"),
)
IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"II*\0", b"MM\0*", b"BM")
COMPRESSIONS = (
    (b"\x1f\x8b", "gzip", gzip.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\xfd7zXZ\0", "xz", lzma.open),
)
FOLDER = "give the folder with the images, or a zip or tar archive of it"


def describe(path):
    """What the file is and what to do, as the end of the sentence "it is …"."""
    with open(path, "rb") as stream:
        head = stream.read(HEAD)
    if not head:
        return "empty; download or copy it again"
    for beginning, name, opened in COMPRESSIONS:
        if head.startswith(beginning):
            return _compressed(path, name, opened)
    if head[257:262] == b"ustar":
        return "a tar archive that is damaged; download or copy it again"
    for beginning, sentence in SIGNATURES:
        if head.startswith(beginning):
            return sentence
    if head.startswith(IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return f"an image; {FOLDER}"
    return _text(path, head)


def _compressed(path, name, opened):
    try:
        with opened(path) as stream:
            stream.read(HEAD)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return f"compressed with {name}, but truncated or damaged; download or copy it again"
    return f"compressed with {name}, but no tar archive is in it; {FOLDER}"


def _text(path, head):
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head[: len(head) // 2 * 2].decode("utf-16", "replace")
    else:
        text = head.decode("utf-8-sig", "replace")
    # A character that is cut at the end of the head becomes one replacement.
    if "\0" in text or "\ufffd" in text[:-3]:
        return f"of an unknown kind; {FOLDER}"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")) or "<html" in start or "<head" in start:
        return (
            "an HTML page, perhaps a login or an error; open the address in a browser, download the archive "
            "there and give the file, or find the address of the file itself"
        )
    if start.startswith("<"):
        return "an XML or HTML text, perhaps an error; look into it with an editor"
    if start.startswith(("{", "[")):
        return "a JSON text, perhaps an error; look into it with an editor"
    if start.startswith("version https://git-lfs"):
        return "a Git LFS pointer, not the file itself; fetch the file with git lfs pull"
    first = text.splitlines()[0] if text.splitlines() else ""
    if Path(path).suffix.lower() in (".csv", ".tsv") or any(sign in first for sign in ",;\t"):
        return (
            "a text, perhaps a table; to use a table, set dataset.source to its folder, dataset.format to csv "
            "and dataset.csv to its name"
        )
    return f"a text; {FOLDER}"
