"""Hypothesis on tables and image files: a right answer or a sentence, never half an output."""

import contextlib
import csv
import io
import shutil
import string
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dmlstudy.core.files import StudyError
from dmlstudy.data import images as images_module
from dmlstudy.data.archives import extract
from dmlstudy.data.dataset import read_manifest, write_csv
from dmlstudy.data.images import open_with_note, upright_size
from dmlstudy.data.listing import list_rows
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.pack import write_pack
from dmlstudy.data.problems import find_problems

MAX_PIXELS = 100_000
pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("a.png", "b c.png", "in/c.png", "in/ü.png", "d'e,f;g.png")
# What tables are made of, the odd things included.
TEXT = st.text(
    st.sampled_from(string.printable + '\0\ufeff\u2028\x85üß帽\u0308\ud800"\\/;,\t\r\n'),
    max_size=12,
)
CELL = st.one_of(
    st.sampled_from(
        [*NAMES, "", "0", "1", "1.0", "2", "-1", "nan", "inf", "1e999", "True", "train"]
    ),
    st.sampled_from(["validation", "test", "../x/a.png", "in/../a.png", "/etc/passwd", ".", ".."]),
    st.sampled_from(["in\\c.png", "9" * 5000, "x" * 300, "٣", "1_0", "a.png/b", "\u00a0"]),
    st.integers(-3, 30).map(str),
    st.floats().map(str),
    TEXT,
)
COLUMNS = [
    "path",
    "label",
    "split",
    "is_query",
    "is_gallery",
    "x_1",
    "x_2",
    "y_1",
    "y_2",
    "other",
    "",
]
ENCODING = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
END = st.sampled_from(["\n", "\r\n", "\r", "\n\n", "\x0b"])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images, which every example finds unchanged."""
    folder = tmp_path_factory.mktemp("tables") / "x"
    for index, name in enumerate(NAMES):
        for root in (folder, folder / "images"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (index, 0, 0)).save(root / name)
    return folder


@pytest.fixture(scope="module")
def few_photos(tmp_path_factory):
    """A folder with a folder of four images, to which each example adds one."""
    folder = tmp_path_factory.mktemp("few")
    for shade, name in enumerate(("hat/0.png", "hat/1.png", "shoe/0.png", "shoe/1.png")):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4), (shade, 0, 0)).save(folder / "photos" / name)
    return folder


def attempt(function, *arguments, **options):
    """(result, "") or (None, the sentence of a StudyError). Every other exception goes on."""
    try:
        return function(*arguments, **options), ""
    except StudyError as error:
        return None, str(error) or "an error without words"


def encoded(text, encoding):
    return text.encode(encoding, "replace")


def check_listing(folder, data_format, expected=None):
    """All programs agree on a data set, or all refuse it in words; the names of its classes or None."""
    split = {"method": "stratified", "test_share": 0.5, "seed": 1}
    out = folder.parent / "manifest.csv"
    out.unlink(missing_ok=True)
    listed, sentence = attempt(list_rows, folder, data_format)
    if listed is None:
        assert "t.csv" in sentence or ".txt" in sentence or str(folder) in sentence
        problems, classes = find_problems(folder, data_format, max_pixels=MAX_PIXELS, split=split)
        assert "yes" in set(problems["must_be_fixed"])
        assert classes.empty
        return None
    names, rows = listed
    assert rows
    assert names
    assert len(rows) == len({row["path"] for row in rows})
    assert {row["class_id"] for row in rows} <= set(range(len(names)))
    if expected is not None:
        assert len(rows) == expected
    problems, classes = find_problems(folder, data_format, max_pixels=MAX_PIXELS, split=split)
    assert classes["images"].sum() == len(rows)
    manifest, _ = attempt(make_manifest, folder, data_format, max_pixels=MAX_PIXELS)
    if manifest is None:
        assert "yes" in set(problems["must_be_fixed"])
        return names
    write_csv(out, manifest)
    pd.testing.assert_frame_equal(read_manifest(out), manifest, check_dtype=False, atol=1e-6)
    assert len(manifest) == len(rows)
    for path in manifest["path"]:
        assert (folder / path).resolve().is_relative_to(folder.resolve())
    return names


SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@SHARED
@given(
    columns=st.lists(st.sampled_from(COLUMNS), max_size=11).map(
        lambda more: ["path", "label", *more]
    ),
    rows=st.lists(st.lists(CELL, min_size=13, max_size=13), max_size=5),
    separator=st.sampled_from([",", ";", "\t", "|"]),
    end=END,
    encoding=ENCODING,
)
def test_csv_tables_of_any_cells(photos, columns, rows, separator, end, encoding):
    """Would catch a traceback for any cell, or rows that are lost on the way into the manifest."""
    columns = list(dict.fromkeys(columns))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator=end)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row[: len(columns)])
    (photos / "t.csv").write_bytes(encoded(stream.getvalue(), encoding))
    try:
        check_listing(photos, "csv")
    finally:
        (photos / "t.csv").unlink()


@SHARED
@given(content=st.one_of(st.binary(max_size=200), TEXT.map(lambda text: encoded(text, "utf-8"))))
def test_csv_tables_of_any_bytes(photos, content):
    """Would catch a traceback for a file that is no table."""
    for start in (b"", b"path,label\n"):
        (photos / "t.csv").write_bytes(start + content)
        try:
            check_listing(photos, "csv")
        finally:
            (photos / "t.csv").unlink()


GOOD_LABEL = st.text(string.ascii_letters + string.digits + " üß帽;,'\"", min_size=1, max_size=8)


@SHARED
@given(
    labels=st.lists(GOOD_LABEL, min_size=1, max_size=5),
    separator=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    blank=st.booleans(),
)
def test_good_csv_tables_are_read_whole(photos, labels, separator, end, encoding, blank):
    """Would catch a good table that is refused, or a row or label that changes."""
    labels = [label.strip() for label in labels]
    assume(all(labels))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator, lineterminator=end + blank * end)
    writer.writerow(["path", "label"])
    writer.writerows(zip(NAMES, labels, strict=False))
    (photos / "t.csv").write_bytes(stream.getvalue().encode(encoding))
    try:
        names, rows = list_rows(photos, "csv")
    finally:
        (photos / "t.csv").unlink()
    found = {row["path"]: names[row["class_id"]] for row in rows}
    assert found == dict(zip(NAMES, labels, strict=False))


CUB_FILES = {
    "classes": "1 A b\n2 ü\n",
    "images": "1 a.png\n2 b c.png\n3 in/c.png\n4 in/ü.png\n",
    "image_class_labels": "1 1\n2 1\n3 2\n4 2\n",
    "bounding_boxes": "1 0 0 6 4\n2 0 0 6 4\n3 0 0 6 4\n4 1.5 1 2 2\n",
    "train_test_split": "1 1\n2 0\n3 1\n4 0\n",
}


@SHARED
@given(
    changes=st.dictionaries(
        st.sampled_from(sorted(CUB_FILES)),
        st.one_of(
            st.none(),
            st.lists(st.tuples(st.integers(0, 5), st.lists(CELL, max_size=5))),
            st.binary(max_size=60),
        ),
        max_size=3,
    ),
    end=END,
    encoding=ENCODING,
)
def test_cub_tables_of_any_cells(photos, changes, end, encoding):
    """Would catch a traceback for any table of CUB, or images that are counted wrongly."""
    try:
        for name, text in CUB_FILES.items():
            change = changes.get(name, ())
            if change is None:
                continue
            if isinstance(change, bytes):
                content = encoded(text, encoding) + change
            else:
                lines = text.splitlines()
                for place, cells in change:
                    lines[min(place, len(lines)) : place + 1] = [" ".join([str(place), *cells])]
                content = encoded(end.join(lines), encoding)
            (photos / f"{name}.txt").write_bytes(content)
        expected = 4 if not {"images"} & set(changes) and end in ("\n", "\r\n", "\r") else None
        check_listing(photos, "cub", expected)
    finally:
        for name in CUB_FILES:
            (photos / f"{name}.txt").unlink(missing_ok=True)


# Image files.


def whole_files():
    """Valid files of many formats and modes: [bytes]."""
    rng = np.random.default_rng(0)
    base = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 4096, (12, 16)).astype(np.uint16))
    exif = Image.Exif()
    exif[274] = 6
    palette = base.quantize(16)
    made = []

    def add(image, extension, **options):
        stream = io.BytesIO()
        image.save(stream, extension, **options)
        made.append(stream.getvalue())

    for extension in (
        "JPEG",
        "PNG",
        "TIFF",
        "WEBP",
        "GIF",
        "BMP",
        "PPM",
        "TGA",
        "JPEG2000",
        "AVIF",
    ):
        add(base, extension, **({"exif": exif} if extension not in ("GIF", "BMP", "PPM") else {}))
    for mode in ("1", "L", "LA", "RGBA", "CMYK", "F", "I", "P"):
        image = base.convert("L").convert(mode) if mode in ("F", "I") else base.convert(mode)
        add(image, "TIFF", exif=exif)
        add(image, "TIFF", compression="tiff_lzw")
    for mode in ("1", "L", "LA", "RGBA"):
        add(base.convert(mode), "PNG")
    add(deep, "PNG")
    add(deep, "TIFF", exif=exif)
    add(deep, "JPEG2000")
    add(palette, "PNG", transparency=1)
    add(palette, "PNG", transparency=bytes(range(16)))
    add(base.convert("CMYK"), "JPEG")
    frames = [base, base.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for extension in ("GIF", "PNG", "WEBP", "TIFF", "MPO"):
        add(frames[0], extension, save_all=True, append_images=frames[1:])
    return made


FILES = whole_files()


def of_pillow(content):
    """The image as Pillow with orientation decodes it, or None if it does not."""
    try:
        image = Image.open(io.BytesIO(content))
        return ImageOps.exif_transpose(image)
    except Exception:
        return None


@SHARED
@given(
    content=st.sampled_from(FILES),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=4),
    early=st.booleans(),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_damaged_images_are_read_as_pillow_does_or_named(content, flips, early, kept):
    """Would catch any exception of a decoder, two sizes of one file, or a file changed or left open."""
    damaged = bytearray(content)
    for place, value in flips:
        damaged[int(place * (min(len(damaged), 120) if early else len(damaged)))] ^= value
    damaged = bytes(damaged[: int(kept * len(damaged))])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "a.jpg"
        path.write_bytes(damaged)
        opened, sentence = attempt(open_with_note, path, max_pixels=MAX_PIXELS)
        if opened is None:
            assert str(path) in sentence
            # Only the header of a JPEG is read for its size.
            with contextlib.suppress(StudyError):
                upright_size(path, max_pixels=MAX_PIXELS)
                assert Image.open(path).format in images_module._SIZE_IN_HEADER
            return
        image, note = opened
        assert image.mode == "RGB"
        assert isinstance(note, str)
        assert upright_size(path, max_pixels=MAX_PIXELS) == image.size
        reference = of_pillow(damaged)
        assert reference is not None
        assert reference.size == image.size
        if reference.mode in ("RGB", "L", "1", "P", "CMYK") and not reference.has_transparency_data:
            np.testing.assert_array_equal(np.asarray(image), np.asarray(reference.convert("RGB")))
        if not flips and kept == 1:
            assert content == damaged


@SHARED
@given(content=st.sampled_from(FILES), place=st.floats(0, 0.999), value=st.integers(1, 255))
def test_pack_of_a_damaged_image_is_whole_or_absent(few_photos, content, place, value):
    """Would catch half a pack, a pack that disagrees with its manifest, or a check-up that is silent."""
    damaged = bytearray(content)
    damaged[int(place * len(damaged))] ^= value
    root, out = few_photos / "photos", few_photos / "pack"
    shutil.rmtree(out, ignore_errors=True)
    (root / "hat" / "2.png").write_bytes(damaged)
    split = {"method": "stratified", "test_share": 0.5, "seed": 1}
    problems, classes = find_problems(root, "folders", max_pixels=MAX_PIXELS, split=split)
    unreadable = classes["unreadable"].sum()
    assert classes["images"].sum() == 5
    assert unreadable == (problems["must_be_fixed"] == "yes").sum()
    manifest, sentence = attempt(make_manifest, root, "folders", max_pixels=MAX_PIXELS)
    if manifest is not None:
        options = {"max_pixels": MAX_PIXELS}
        _, sentence = attempt(write_pack, out, root, manifest, "squash8", **options)
    assert unreadable == bool(sentence)
    if sentence:
        assert "2.png" in sentence
        assert [path.name for path in few_photos.iterdir()] == ["photos"]
    else:
        assert (out / "pixels.bin").stat().st_size == 5 * 8 * 8 * 3


# Archives.


@SHARED
@given(
    kind=st.sampled_from(["zip", "w", "w:gz", "w:bz2", "w:xz"]),
    names=st.lists(TEXT.filter(bool), max_size=4),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=4),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
def test_archives_are_unpacked_whole_or_named(kind, names, flips, kept):
    """Would catch a traceback, a file outside of the folder, or half a folder."""
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                # zipfile cuts a name at its first NUL, and writes no empty names.
                if name[0] != "\0":
                    archive.writestr(name.replace("\ud800", "?"), name.encode("utf-8", "replace"))
    else:
        with tarfile.open(fileobj=stream, mode=kind) as archive:
            for name in names:
                member = tarfile.TarInfo(name.replace("\ud800", "?"))
                archive.addfile(member, io.BytesIO())
    content = bytearray(stream.getvalue())
    for place, value in flips:
        content[int(place * len(content))] ^= value
    content = content[: int(kept * len(content))]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive, sizes = Path(folder) / "archive", []
        archive.write_bytes(content)
        (Path(folder) / "in").mkdir()
        out = Path(folder) / "in" / "out"
        _, sentence = attempt(extract, archive, out, progress=sizes.append)
        if sentence:
            assert str(archive) in sentence
            assert list((Path(folder) / "in").iterdir()) == []
        else:
            assert sum(path.is_file() for path in out.rglob("*")) == len(sizes)
        assert sorted(path.name for path in Path(folder).iterdir()) == ["archive", "in"]
