"""Images of every format, orientation, mode and depth: as Pillow turns and decodes them, or named."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from helpers import noise
from PIL import Image, ImageCms, ImageOps

from dmlstudy.core.files import StudyError
from dmlstudy.data.images import open_rgb, open_with_note, upright_size
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.pack import write_pack
from dmlstudy.data.problems import find_problems

# An icon of macOS has a million pixels.
MAX_PIXELS = 2_000_000
Image.init()
# Formats that Pillow writes and reads without other programs.
FORMATS = sorted(
    (set(Image.SAVE) & set(Image.OPEN)) - {"BUFR", "EPS", "GRIB", "HDF5", "PDF", "WMF", "MPO"}
)


def size_and_pixels(path):
    """The pixels; upright_size must agree with them."""
    image = open_rgb(path, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    assert upright_size(path, max_pixels=MAX_PIXELS) == image.size
    return np.asarray(image)


def note_of(path):
    return open_with_note(path, max_pixels=MAX_PIXELS)[1]


def of_pillow(path):
    # As a stream: Pillow maps some files into memory if it gets a path, and swaps rows and columns.
    with open(path, "rb") as stream, Image.open(stream) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def problems_of(folder, data_format="folders"):
    split = {"method": "stratified", "test_share": 0.5, "seed": 42}
    table, _ = find_problems(folder, data_format, max_pixels=MAX_PIXELS, split=split)
    return table


# Formats and orientations.


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", FORMATS)
def test_size_and_pixels_of_all_formats_and_orientations(tmp_path, name, orientation):
    """Would catch two ways to one size: a format whose reader turns the size before we do."""
    path = tmp_path / f"a.{name.lower()}"
    exif = Image.Exif()
    exif[274] = orientation
    image = noise(np.random.default_rng(1), 12, 8)
    for mode in ("RGB", "L", "1", "F", "P"):
        try:
            # Formats without EXIF data ignore the argument.
            image.convert(mode).save(path, name, exif=exif)
            break
        except (OSError, KeyError, ValueError):
            path.unlink(missing_ok=True)
    if name in ("ICO", "ICNS"):
        # An icon holds several sizes; Pillow opens the largest.
        image.resize((16, 16)).save(path, name, exif=exif, append_images=[])
    assert path.exists()
    found = size_and_pixels(path)
    np.testing.assert_array_equal(found, of_pillow(path))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("orientation", [1, 5, 6, 7, 8])
def test_turned_tiff_goes_through_manifest_and_pack(tmp_path, compression, orientation):
    """Would catch a TIFF whose size in the manifest differs from the pixels in the pack."""
    exif = Image.Exif()
    exif[274] = orientation
    (tmp_path / "in" / "hat").mkdir(parents=True)
    path = tmp_path / "in" / "hat" / "scan.tif"
    noise(np.random.default_rng(2), 30, 20).save(path, exif=exif, compression=compression)
    manifest = make_manifest(tmp_path / "in", "folders", max_pixels=MAX_PIXELS)
    expected = (30, 20) if orientation == 1 else (20, 30)
    assert (manifest["width"][0], manifest["height"][0]) == expected
    write_pack(tmp_path / "pack", tmp_path / "in", manifest, "squash8", max_pixels=MAX_PIXELS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1", "F"])
def test_turned_tiff_of_every_mode(tmp_path, mode, orientation):
    """Would catch a mode that is converted before it is turned, or turned twice."""
    exif = Image.Exif()
    exif[274] = orientation
    base = noise(np.random.default_rng(3), 12, 8)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(base.convert("L")).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(base.convert("L")).astype(np.float32))
    else:
        image = base.convert(mode)
    image.save(tmp_path / "a.tif", exif=exif)
    expected = (12, 8) if orientation < 5 else (8, 12)
    assert upright_size(tmp_path / "a.tif", max_pixels=MAX_PIXELS) == expected
    found = size_and_pixels(tmp_path / "a.tif")
    reference = base.convert(
        mode if mode in ("CMYK", "P", "1") else "L" if mode != "RGBA" else "RGB"
    )
    reference.getexif()[274] = orientation
    np.testing.assert_array_equal(
        found, np.asarray(ImageOps.exif_transpose(reference).convert("RGB"))
    )


def test_orientation_in_xmp_alone(tmp_path):
    """Would catch an orientation that only Pillow's own function finds."""
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    for name in ("a.jpg", "a.webp", "a.tif"):
        noise(np.random.default_rng(4), 12, 8).save(tmp_path / name, xmp=xmp)
        np.testing.assert_array_equal(size_and_pixels(tmp_path / name), of_pillow(tmp_path / name))


# Modes and depths.


@pytest.mark.parametrize("extension", ["jpg", "png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_ordinary_images_are_pillows(tmp_path, mode, extension):
    """Would catch an ordinary photograph whose pixels change."""
    noise(np.random.default_rng(5), 20, 16).convert(mode).save(tmp_path / f"a.{extension}")
    found = size_and_pixels(tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(found, of_pillow(tmp_path / f"a.{extension}"))
    assert note_of(tmp_path / f"a.{extension}") == ""


@pytest.mark.parametrize("mode", ["1", "P", "CMYK", "YCbCr", "LAB"])
def test_other_opaque_modes_are_pillows(tmp_path, mode):
    """Would catch a mode taken for RGB, or refused although Pillow reads it."""
    image = noise(np.random.default_rng(6), 20, 16)
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    image.convert(mode).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(
        size_and_pixels(tmp_path / "a.tif"), of_pillow(tmp_path / "a.tif")
    )


def grey(values, path):
    Image.fromarray(values).save(path)
    return size_and_pixels(path)[..., 0], note_of(path)


RAMP = np.linspace(0, 1, 6400).reshape(80, 80)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("extension", ["tif", "png", "jp2"])
def test_depths_within_16_bits(tmp_path, extension, bits):
    """Would catch a microscope's image that becomes black, or a guessed range that nobody hears of."""
    values = (RAMP * (2**bits - 1)).astype(np.uint16)
    found, note = grey(values, tmp_path / f"a.{extension}")
    np.testing.assert_array_equal(found, (values >> (bits - 8)).astype(np.uint8))
    assert (note == "") == (bits == 16)
    if note:
        assert f"taken for {bits} bits" in note


def test_16_bits_of_either_byte_order(tmp_path):
    """Would catch big-endian values read as little-endian."""
    values = (RAMP * 65535).astype(np.uint16)
    for order, mode in (("<", "I;16"), (">", "I;16B")):
        image = Image.frombytes(mode, (80, 80), values.astype(f"{order}u2").tobytes())
        image.save(tmp_path / "a.tif")
        np.testing.assert_array_equal(size_and_pixels(tmp_path / "a.tif")[..., 0], values >> 8)


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        (RAMP.astype(np.float32), np.round(RAMP.astype(np.float32) * 255), "1 is taken for white"),
        ((RAMP * 255).astype(np.float32), np.floor((RAMP * 255).astype(np.float32)), "8 bits"),
        ((RAMP * 4095).astype(np.int32), (RAMP * 4095).astype(np.int32) >> 4, "12 bits"),
        ((RAMP * 2**24).astype(np.int32), (RAMP * 2**24).astype(np.int32) >> 24, "32 bits"),
        ((RAMP * 0).astype(np.float32), RAMP * 0, "1 is taken for white"),
    ],
)
def test_deeper_grey(tmp_path, values, expected, words):
    """Would catch Pillow's conversion, which clips at 255, for whole numbers and floats."""
    if "32 bits" in words:
        words = ""
    found, note = grey(values, tmp_path / "a.tif")
    np.testing.assert_array_equal(found, expected.astype(np.uint8))
    assert words in note


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((RAMP * 100 - 50).astype(np.float32), "negative grey values"),
        ((RAMP * 3000 - 1000).astype(np.int32), "negative grey values"),
        (np.full((4, 4), np.nan, dtype=np.float32), "not finite"),
        (np.full((4, 4), np.inf, dtype=np.float32), "not finite"),
        (np.full((4, 4), 1e30, dtype=np.float32), "more than 32 bits"),
    ],
)
def test_grey_without_a_range_is_named(tmp_path, values, words):
    """Would catch values without a known black or white that become any shade."""
    Image.fromarray(values).save(tmp_path / "a.tif")
    for function in (open_rgb, upright_size):
        with pytest.raises(StudyError, match=rf"a\.tif: .*{words}"):
            function(tmp_path / "a.tif", max_pixels=MAX_PIXELS)


def test_declared_depth_is_no_guess(tmp_path):
    """Would catch a file that says its depth and is guessed at all the same."""
    values = (RAMP * 1000).astype(np.uint16)
    header = b"P5\n80 80\n4095\n"
    (tmp_path / "a.pgm").write_bytes(header + values.astype(">u2").tobytes())
    found = size_and_pixels(tmp_path / "a.pgm")[..., 0]
    assert np.abs(found - values.astype(float) * 255 / 4095).max() <= 1
    assert note_of(tmp_path / "a.pgm") == ""


def test_check_up_names_guessed_ranges_once_with_counts(tmp_path):
    """Would catch a check-up that is silent about guesses, or that prints a line per image."""
    for name in ("hat", "shoe"):
        (tmp_path / name).mkdir()
        for index in range(6):
            values = (RAMP * (4095 - index)).astype(np.uint16)
            values[0, 0] = ord(name[0])
            Image.fromarray(values).save(tmp_path / name / f"{index}{name}.tif")
    Image.fromarray((RAMP * 900).astype(np.uint16)).save(tmp_path / "hat" / "9.tif")
    problems = problems_of(tmp_path)
    assert set(problems["must_be_fixed"]) == {"no"}
    texts = problems.loc[problems["kind"] == "image", "problem"].tolist()
    assert len(texts) == 3
    assert any("12 bits" in text and "and 9 more" in text for text in texts)
    assert any("10 bits" in text and "hat/9.tif" in text for text in texts)
    assert any("2 different ways" in text for text in texts)


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_colour_that_becomes_dark_is_mentioned(tmp_path, bits):
    """Would catch a colour image of 12 bits in 16 that becomes black without a word."""
    values = np.repeat((RAMP * (2**bits - 1)).astype(">u2")[..., None], 3, axis=2)
    header = struct.pack(">IIBBBBB", 80, 80, 16, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    content += png_chunk(b"IDAT", zlib.compress(lines)) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    np.testing.assert_array_equal(size_and_pixels(tmp_path / "a.png"), values >> 8)
    assert ("it is dark" in note_of(tmp_path / "a.png")) == (bits == 12)


# Transparency.


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def transparent_images():
    """{name: (bytes of a file, expected colours of its two pixels)}: opaque, then transparent."""
    made = {}

    def save(name, image, expected, extension="png", **options):
        stream = io.BytesIO()
        image.save(stream, extension, **options)
        made[f"{name}.{extension}"] = stream.getvalue(), expected

    def two(mode, first, second):
        image = Image.new(mode, (2, 1), first)
        image.putpixel((1, 0), second)
        return image

    red, white = (255, 0, 0), (255, 255, 255)
    rgba = two("RGBA", (*red, 255), (*red, 0))
    for extension in ("png", "tiff", "webp", "tga", "dds", "qoi", "jpeg2000", "icns"):
        options = {"lossless": True} if extension == "webp" else {}
        if extension != "icns":
            save("rgba", rgba, [red, white], extension, **options)
    save("half", two("RGBA", (*red, 255), (0, 0, 0, 128)), [red, (127, 127, 127)])
    save("la", two("LA", (90, 255), (90, 0)), [(90, 90, 90), white])
    save("l", two("L", 90, 7), [(90, 90, 90), white], transparency=7)
    save("1", two("1", 255, 0), [white, white], transparency=0)
    save("rgb", two("RGB", red, (1, 2, 3)), [red, white], transparency=(1, 2, 3))
    palette = two("P", 0, 1)
    palette.putpalette([*red, 0, 255, 0])
    save("index", palette, [red, white], transparency=1)
    save("index", palette, [red, white], "gif", transparency=1)
    save("alphas", palette, [red, white], transparency=bytes([255, 0]))
    save("alphas", palette, [red, (127, 255, 127)], transparency=bytes([255, 128]))
    deep = Image.fromarray(np.array([[65535, 300]], dtype=np.uint16))
    save("deep", deep, [white, white], transparency=300)
    # A colour of 16 bits per channel: Pillow keeps the upper byte of the pixels, not of the colour.
    row = struct.pack(">6H", 0xFFFF, 0, 0, 0x1234, 0x5678, 0x9ABC)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(
        b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    )
    content += png_chunk(b"tRNS", row[6:]) + png_chunk(b"IDAT", zlib.compress(b"\0" + row))
    made["rgb16.png"] = content + png_chunk(b"IEND", b""), [red, white]
    return made


TRANSPARENT = transparent_images()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_pixels_are_white(tmp_path, name):
    """Would catch colours that nobody sees and that a model learns, or a warning for each image."""
    content, expected = TRANSPARENT[name]
    (tmp_path / name).write_bytes(content)
    np.testing.assert_array_equal(size_and_pixels(tmp_path / name)[0], expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_premultiplied_alpha(tmp_path, mode):
    """Would catch the colours of a TIFF that are multiplied by its alpha taken as they are."""
    colour = (200, 0, 0) if mode == "RGBA" else (200,)
    image = Image.new(mode, (2, 1), (*colour, 255))
    image.putpixel((1, 0), (*colour, 0))
    image.save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    # Tag 338, one short: 2 is alpha beside the colours, 1 is alpha that they are multiplied by.
    entry = struct.pack("<HHLH", 338, 3, 1, 2)
    assert content.count(entry) == 1
    (tmp_path / "a.tif").write_bytes(content.replace(entry, struct.pack("<HHLH", 338, 3, 1, 1)))
    first = (200, 0, 0) if mode == "RGBA" else (200,) * 3
    np.testing.assert_array_equal(size_and_pixels(tmp_path / "a.tif")[0], [first, (255,) * 3])


def test_palette_with_an_alpha_channel(tmp_path):
    """Would catch the rarest mode with transparency read as opaque."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    image.convert("PA").save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as opened:
        assert opened.mode == "PA"
    np.testing.assert_array_equal(size_and_pixels(tmp_path / "a.tif")[0], [(255, 0, 0), (255,) * 3])


def test_wholly_transparent_image_is_mentioned(tmp_path):
    """Would catch an image that shows nothing and is trained on without a word."""
    for name, count in (("hat", 4), ("shoe", 4)):
        (tmp_path / name).mkdir()
        for index in range(count):
            noise(np.random.default_rng(index), 8, 6).save(tmp_path / name / f"{index}{name}.png")
    Image.new("RGBA", (8, 6), (255, 0, 0, 0)).save(tmp_path / "hat" / "ghost.png")
    assert (size_and_pixels(tmp_path / "hat" / "ghost.png") == 255).all()
    problems = problems_of(tmp_path)
    found = problems[problems["problem"].str.contains("wholly transparent")]
    assert found["must_be_fixed"].tolist() == ["no"]
    assert "hat/ghost.png" in found["problem"].iloc[0]


# Several frames, profiles, things that are no files.


def test_first_frame_of_several(tmp_path):
    """Would catch a later frame, or an animation that is refused."""
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif", "a.mpo", "a.avif"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        pixels = size_and_pixels(tmp_path / name).astype(int)
        assert np.abs(pixels - (255, 0, 0)).max() <= 3


def test_colour_profile_does_not_change_pixels(tmp_path):
    """Would catch pixels that depend on whether a profile is there."""
    image = noise(np.random.default_rng(7), 8, 6)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(tmp_path / "a.png", icc_profile=profile)
    np.testing.assert_array_equal(size_and_pixels(tmp_path / "a.png"), np.asarray(image))


def test_what_is_no_image_is_named_in_words(tmp_path):
    """Would catch a pipe that is waited for, or "broken" said of a file that may not be read."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    words = {
        "pipe.jpg": "not a file",
        "folder.jpg": "not a file",
        "empty.jpg": "the file is empty",
        "a.heic": "convert it to JPEG",
        f"{'x' * 300}.jpg": "File name too long",
    }
    for name, expected in words.items():
        for function in (open_rgb, upright_size):
            with pytest.raises(StudyError, match=expected):
                function(tmp_path / name, max_pixels=MAX_PIXELS)
