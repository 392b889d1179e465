"""Read the text tables of data sets with care: encodings, line ends, numbers, places of images."""

import codecs
import io
import math
import os
from pathlib import Path, PurePath

from dmlstudy.core.files import StudyError

ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path):
    r"""The text of a table: UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Line ends stay as they are (\n, \r\n or \r); see `lines`. Raises StudyError, naming the file and
    the line, for another encoding, since a wrong guess would change class names.
    """
    kind = "CSV table" if Path(path).suffix.lower() == ".csv" else "table"
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = next((name for mark, name in ENCODINGS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        number = content[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n")
        raise StudyError(
            f"{path}: cannot be read as a {kind}: line {number + 1} is not {encoding.upper()[:6]} "
            f"(byte 0x{content[error.start]:02X}); the file may be Latin-1 (Windows-1252). Save it as "
            "UTF-8: in a spreadsheet, choose “CSV UTF-8”"
        ) from None
    if "\0" in text:
        raise StudyError(
            f"{path}: cannot be read as a {kind}: it has NUL characters. It may be UTF-16 without a "
            "byte order mark, or no text at all. Save it as UTF-8"
        )
    return text


def lines(text):
    r"""The lines of a text as (line number from 1, line without its end), blank lines left out.

    Lines end with \n, \r\n or \r only; `str.splitlines` would also split names at rarer characters.
    """
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, line.removesuffix("\n")


def whole_number(text):
    """A whole number of up to 18 digits 0 to 9, or None."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def box(where, texts, left, top, width, height):
    """(x, y, width, height) of a bounding box. StudyError if it has no area or is infinite.

    ``where``: file and line; ``texts``: the box as it stands there. Whether the box lies inside its
    image is checked later, when the image's size is known; see `remarks.box_remarks`.
    """
    numbers = left, top, width, height
    if not (all(map(math.isfinite, numbers)) and width > 0 and height > 0):
        raise StudyError(f"{where}: the box is empty, of negative size or infinite: {texts}")
    return numbers


def numbers(where, names, texts):
    """``texts`` as floats. StudyError if one is NaN or no number; ``names``: what they are."""
    try:
        # Python takes 1_0 for 10.
        if any("_" in text for text in texts):
            raise ValueError
        values = [float(text) for text in texts]
    except ValueError:
        values = [math.nan]
    if any(map(math.isnan, values)):
        raise StudyError(f"{where}: {names} are not four numbers: {texts}")
    return values


def roots(folder):
    """The spellings of ``folder`` that absolute paths in a table may use, for `place`."""
    return sorted({os.path.abspath(folder), os.path.realpath(folder)})


def place(roots, base, text):
    """The path of an image relative to the data set's folder, with slashes, or None if it is outside.

    ``roots``: see `roots`; ``text``: the path in a table of the subfolder ``base``. It may be absolute,
    and it may leave the folder and come back (``../photos/x.jpg`` in ``photos``). Backslashes separate
    folders unless a file has them in its name. Links inside the folder are not followed.
    """
    if "\\" in text and not os.path.exists(os.path.join(roots[0], base, text)):
        text = text.replace("\\", "/")
    for start in roots:
        target = PurePath(os.path.normpath(os.path.join(start, base, text)))
        for root in roots:
            if target.is_relative_to(root) and target != PurePath(root):
                return target.relative_to(root).as_posix()
    return None


def outside(where, folder, base, text):
    """The StudyError for a path of a table that leads out of ``folder``."""
    target = os.path.normpath(os.path.join(os.path.abspath(folder), base, text))
    sentence = f"{where}: {text} is outside {folder}, the folder of the data set"
    if os.path.isfile(target):
        common = os.path.commonpath([target, os.path.abspath(folder)])
        sentence += (
            f". The file exists, but images must be inside: set dataset.source to {common} and name the "
            "table with dataset.csv, or copy the images into the folder"
        )
    return StudyError(sentence)
