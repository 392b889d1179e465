"""The pack and the crops from it equal torchvision's transforms of PIL images to the pixel."""

import hashlib
import io
import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MAX_PIXELS, manifest_of, noise, pack_of
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)
from torchvision.transforms import functional as tv

from dmlstudy.compute.batches import MEAN, STD, ImageBatches
from dmlstudy.core.files import StudyError
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.data import pack
from dmlstudy.data.dataset import write_csv
from dmlstudy.data.images import open_rgb, upright_size
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.pack import write_pack
from dmlstudy.data.resizing import parse_resize

CPU = torch.device("cpu")
# Portrait, landscape, square, odd; larger and smaller than the target; one with the target size.
SIZES = [(50, 83), (83, 50), (47, 47), (61, 37), (37, 61), (20, 33), (34, 51), (101, 34), (35, 36)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Folder and names of noise JPEGs and PNGs of many sizes."""
    folder = tmp_path_factory.mktemp("pack") / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [f"{i}.{'jpg' if i % 2 else 'png'}" for i in range(len(SIZES))]
    for name, (width, height) in zip(names, SIZES, strict=True):
        noise(rng, width, height).save(folder / name)
    return folder, names


def pil(folder, name):
    return Image.open(folder / name).convert("RGB")


@pytest.mark.parametrize(
    ("resize", "transform"),
    [
        ("shorter34", Resize(34)),
        ("shorter47", Resize(47)),
        ("squash34", Resize((34, 34))),
        ("shorter34_bicubic", Resize(34, InterpolationMode.BICUBIC)),
        ("squash47_bicubic", Resize((47, 47), InterpolationMode.BICUBIC)),
    ],
)
def test_pixels_equal_torchvision(photos, resize, transform):
    """Would catch another filter, rounding of the longer side, or width and height swapped."""
    pack = pack_of(*photos, resize)
    assert len(pack) == len(SIZES)
    for row, name in enumerate(photos[1]):
        np.testing.assert_array_equal(pack.image(row), np.asarray(transform(pil(photos[0], name))))


@pytest.mark.parametrize("size", [32, 33, 34])
def test_centre_crops_equal_torchvision(photos, size):
    """Would catch a centre rounded to the other side."""
    images = ImageBatches(pack_of(*photos, "shorter34"), size, CPU)
    transform = Compose([Resize(34), CenterCrop(size)])
    rows = torch.tensor([3, 0, 1, 2, 4, 5, 6, 7, 8, 0])
    for row, crop in zip(rows, images.centre(rows), strict=True):
        expected = np.asarray(transform(pil(photos[0], photos[1][row])))
        np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), expected)


def test_crops_at_given_places_equal_torchvision(photos):
    """Would catch top and left swapped, flips before the crop, or one flip for the whole batch."""
    pack = pack_of(*photos, "shorter34")
    images = ImageBatches(pack, 24, CPU)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, len(pack), 40)
    tops = rng.integers(0, pack.heights[rows] - 24 + 1)
    lefts = rng.integers(0, pack.widths[rows] - 24 + 1)
    flips = rng.random(40) < 0.5
    crops = images.crops(*(torch.from_numpy(array) for array in (rows, tops, lefts, flips)))
    assert crops.shape == (40, 3, 24, 24)
    for i in range(40):
        expected = tv.crop(
            Resize(34)(pil(photos[0], photos[1][rows[i]])), int(tops[i]), int(lefts[i]), 24, 24
        )
        if flips[i]:
            expected = tv.hflip(expected)
        np.testing.assert_array_equal(crops[i].permute(1, 2, 0).numpy(), np.asarray(expected))


def test_last_pixel_of_the_pack_can_be_reached(photos):
    """Would catch a view of the pixels that ends one crop too early."""
    pack = pack_of(*photos, "shorter34")
    last = len(pack) - 1
    places = torch.tensor([[pack.heights[last] - 24], [pack.widths[last] - 24]])
    crop = ImageBatches(pack, 24, CPU).crops(torch.tensor([last]), *places)[0]
    np.testing.assert_array_equal(crop.permute(1, 2, 0).numpy(), pack.image(last)[-24:, -24:])


def test_random_crops_are_torchvision_crops_of_every_place(tmp_path):
    """Would catch positions that are never drawn (last row or column), or too few flips."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = noise(np.random.default_rng(2), 11, 9)
    image.save(folder / "a.png")
    images = ImageBatches(pack_of(folder, ["a.png"], "shorter9"), 8, CPU)
    known = {}
    for top in range(2):
        for left in range(4):
            for flip in (False, True):
                crop = tv.crop(image, top, left, 8, 8)
                crop = tv.hflip(crop) if flip else crop
                known[np.asarray(crop).tobytes()] = (top, left, flip)
    rows = torch.zeros(1600, dtype=torch.int64)
    crops = images.random(rows, torch.Generator().manual_seed(0))
    found = [known[crop.permute(1, 2, 0).numpy().tobytes()] for crop in crops]
    counts = [found.count(place) for place in known.values()]
    assert len(counts) == 16
    # 100 of each are expected; 4 standard deviations are 39.
    assert min(counts) > 61
    assert max(counts) < 139
    again = images.random(rows, torch.Generator().manual_seed(0))
    assert torch.equal(crops, again)
    assert not torch.equal(crops, images.random(rows, torch.Generator().manual_seed(1)))


def test_normalise_equals_torchvision(photos):
    """Would catch channels in another order, or means not scaled to pixels of 0 to 255."""
    images = ImageBatches(pack_of(*photos, "squash34"), 34, CPU)
    batch = images.normalise(images.centre(torch.arange(len(SIZES))))
    assert batch.dtype == torch.float32
    assert batch.is_contiguous(memory_format=torch.channels_last)
    transform = Compose([Resize((34, 34)), ToTensor(), Normalize(MEAN, STD)])
    expected = torch.stack([transform(pil(photos[0], name)) for name in photos[1]])
    torch.testing.assert_close(batch.contiguous(), expected, atol=1e-6, rtol=0)


def test_crops_larger_than_an_image_are_refused(photos):
    """Would catch crops that run into the next image's pixels."""
    with pytest.raises(ValueError, match="smaller than crops of 35"):
        ImageBatches(pack_of(*photos, "shorter34"), 35, CPU)


@pytest.fixture
def side_by_side(monkeypatch):
    """Use several processes even for the few images of a test."""
    monkeypatch.setattr(pack, "CHUNK", 2)


def test_processes_do_not_change_the_pack(photos, side_by_side):
    """Would catch images at the wrong position after parallel decoding, or a digest in another order."""
    first, second = (pack_of(*photos, "shorter34", threads=n) for n in (1, 3))
    assert first.pixels.tobytes() == second.pixels.tobytes()
    np.testing.assert_array_equal(first.offsets, second.offsets)
    digest = hashlib.sha256(first.pixels.tobytes()).hexdigest()
    for threads in (1, 3):
        written = photos[0].parent / f"pack_shorter34_{threads}" / "pixels.bin.sha256"
        assert written.read_text() == f"{digest}  pixels.bin\n"


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for processes")
@pytest.mark.parametrize("victim", ["program", "helper"])
def test_killed_processes_leave_nothing_that_waits(tmp_path, victim):
    """Would catch helpers that outlive a killed job, or a job that waits for a killed helper."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise(np.random.default_rng(8), 1000, 1000).save(folder / "0.jpg", quality=95)
    for index in range(1, 200):
        os.link(folder / "0.jpg", folder / f"{index}.jpg")
    manifest = manifest_of(folder, ["0.jpg"], [0])
    manifest = manifest.loc[[0] * 200].assign(
        image_id=range(200), path=[f"{index}.jpg" for index in range(200)]
    )
    write_csv(tmp_path / "manifest.csv", manifest)
    command = [sys.executable, PROGRAMS / "pack.py", "--images", folder, "--resize", "squash32"]
    command += [
        "--manifest",
        tmp_path / "manifest.csv",
        "--threads",
        "2",
        "--out",
        tmp_path / "pack",
    ]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    helpers, deadline = [], time.monotonic() + 60
    while len(helpers) < 2 and time.monotonic() < deadline:
        # Python's resource tracker is not one of our helpers.
        helpers = [
            child
            for child in children(process.pid)
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    assert len(helpers) == 2
    os.kill(process.pid if victim == "program" else helpers[0], signal.SIGKILL)
    _, text = process.communicate(timeout=60)
    if victim == "helper":
        assert process.returncode == 1
        assert "was killed" in text
        assert sorted(path.name for path in tmp_path.iterdir()) == ["manifest.csv", "photos"]
    while any(map(alive, helpers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_names_of_resizes():
    """Would catch digits of the size taken for the mode, or two packs of one name."""
    assert parse_resize("shorter246") == ("shorter", 246, "bilinear")
    assert parse_resize("squash224_bicubic") == ("squash", 224, "bicubic")
    for name in ("shorter246", "squash224_bicubic"):
        assert parse_resize(name).name == name
    for name in ("longer224", "shorter", "shorter224_nearest"):
        with pytest.raises(ValueError, match=name):
            parse_resize(name)


# Images other than 8-bit RGB.


def read(path):
    assert upright_size(path, max_pixels=MAX_PIXELS) == Image.open(path).size
    image = open_rgb(path, max_pixels=MAX_PIXELS)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_grey(tmp_path):
    """Would catch a grey image refused, or its channel copied to only one colour."""
    values = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.stack([values] * 3, axis=2))


def test_16_bit_grey(tmp_path):
    """Would catch Pillow's conversion, which clips at 255, or the lower byte kept."""
    values = np.array([[0, 255, 256], [4660, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    expected = np.array([[0, 0, 1], [18, 128, 255]])
    np.testing.assert_array_equal(read(tmp_path / "a.png"), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha(tmp_path, mode):
    """Would catch a fourth channel in the pack, or transparency dropped instead of put on white."""
    colour = (10, 20, 30, 128) if mode == "RGBA" else (40, 128)
    Image.new(mode, (3, 2), colour).save(tmp_path / "a.png")
    expected = (132, 137, 142) if mode == "RGBA" else (147, 147, 147)
    assert (read(tmp_path / "a.png") == expected).all()


def test_palette(tmp_path):
    """Would catch palette indices taken for grey values."""
    image = Image.new("P", (2, 1))
    image.putpalette([5, 6, 7, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").tolist() == [[[5, 6, 7], [200, 100, 50]]]


@pytest.mark.parametrize("extension", ["tif", "jpg"])
def test_cmyk(tmp_path, extension):
    """Would catch CMYK values taken for RGB, which gives the negative."""
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / f"a.{extension}")
    pixels = read(tmp_path / f"a.{extension}").astype(int)
    assert np.abs(pixels - (0, 255, 255)).max() <= (0 if extension == "tif" else 2)


# Position of the first stored row and column in the upright image, by EXIF orientation.
STORED = {
    1: lambda eye: eye,  # top, left
    2: lambda eye: eye[:, ::-1],  # top, right
    3: lambda eye: eye[::-1, ::-1],  # bottom, right
    4: lambda eye: eye[::-1],  # bottom, left
    5: lambda eye: eye.transpose(1, 0, 2),  # left, top
    6: lambda eye: eye[:, ::-1].transpose(1, 0, 2),  # right, top
    7: lambda eye: eye[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
    8: lambda eye: eye[::-1].transpose(1, 0, 2),  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(tmp_path, orientation):
    """Would catch rotated images, or sizes that do not match the pixels."""
    eye = np.asarray(noise(np.random.default_rng(3), 6, 4))
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](eye)))
    for name in ("a.png", "a.jpg"):
        stored.save(tmp_path / name, exif=exif)
        assert upright_size(tmp_path / name, max_pixels=MAX_PIXELS) == (6, 4)
        assert open_rgb(tmp_path / name, max_pixels=MAX_PIXELS).size == (6, 4)
    pixels = np.asarray(open_rgb(tmp_path / "a.png", max_pixels=MAX_PIXELS))
    np.testing.assert_array_equal(pixels, eye)


def test_one_pixel(tmp_path):
    """Would catch a division by zero, or a size of zero."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (1, 1), (10, 20, 30)).save(folder / "a.png")
    for resize in ("shorter34", "squash34"):
        image = pack_of(folder, ["a.png"], resize).image(0)
        assert image.shape == (34, 34, 3)
        assert (image == (10, 20, 30)).all()


@pytest.mark.parametrize("extension", ["gif", "tif", "webp", "bmp", "ppm"])
def test_other_formats(tmp_path, extension):
    """Would catch a known file extension that cannot be decoded."""
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    Image.fromarray(grey).save(
        tmp_path / f"a.{extension}", **({"lossless": True} if extension == "webp" else {})
    )
    np.testing.assert_array_equal(read(tmp_path / f"a.{extension}"), np.stack([grey] * 3, axis=2))


def test_palette_with_a_transparent_colour(tmp_path):
    """Would catch the hidden colour of transparent pixels learnt, or a warning for each image."""
    image = Image.new("P", (2, 1))
    image.putpalette([5, 6, 7, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=1)
    assert read(tmp_path / "a.png").tolist() == [[[5, 6, 7], [255, 255, 255]]]


# Broken images.


def truncated(extension):
    stream = io.BytesIO()
    noise(np.random.default_rng(4), 64, 64).save(stream, extension)
    return stream.getvalue()[: len(stream.getvalue()) // 2]


BROKEN = {
    "truncated.jpg": truncated("JPEG"),
    "truncated.png": truncated("PNG"),
    "head.jpg": truncated("JPEG")[:600],
    "text.jpg": b"This is not a photograph.\n" * 10,
    "empty.jpg": b"",
}


@pytest.mark.parametrize(
    ("name", "threads"), [*((name, 1) for name in BROKEN), ("truncated.jpg", 2)]
)
def test_broken_image_is_named_and_nothing_is_left(tmp_path, side_by_side, name, threads):
    """Would catch a broken file read as grey pixels, an error without a name, or an incomplete pack."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for good in ("a.png", "b.png", name):
        noise(np.random.default_rng(5), 64, 64).save(folder / good)
    manifest = manifest_of(folder, ["a.png", name, "b.png"])
    (folder / name).write_bytes(BROKEN[name])
    out = tmp_path / "packs" / "pack"
    with pytest.raises(StudyError, match=name):
        write_pack(out, folder, manifest, "shorter32", max_pixels=MAX_PIXELS, threads=threads)
    assert list((tmp_path / "packs").iterdir()) == []


@pytest.mark.parametrize("name", ["truncated.png", "text.jpg", "empty.jpg"])
def test_manifest_names_a_broken_image(tmp_path, name):
    """Would catch an error of Pillow that does not name the file."""
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / name).write_bytes(BROKEN[name])
    with pytest.raises(StudyError, match=name):
        make_manifest(tmp_path, "folders", max_pixels=MAX_PIXELS)


def test_changed_image_is_refused(photos, tmp_path):
    """Would catch an image that was replaced after the manifest was made."""
    manifest = manifest_of(*photos)
    manifest.loc[2, "width"] += 1
    with pytest.raises(StudyError, match=photos[1][2]):
        write_pack(tmp_path / "pack", photos[0], manifest, "squash32", max_pixels=MAX_PIXELS)
    assert list(tmp_path.iterdir()) == []


def test_too_many_pixels_are_refused(tmp_path):
    """Would catch a huge image that fills the memory."""
    Image.new("RGB", (30, 20)).save(tmp_path / "huge.png")
    for function in (upright_size, open_rgb):
        function(tmp_path / "huge.png", max_pixels=600)
        with pytest.raises(StudyError, match=r"huge\.png.*max_pixels"):
            function(tmp_path / "huge.png", max_pixels=599)


def png_of_zeros(path, side):
    """A valid PNG of side × side black pixels (1 bit each): small on disk, huge in memory."""
    packer, packed = zlib.compressobj(1), b""
    for _ in range(side):
        packed += packer.compress(bytes(1 + (side + 7) // 8))
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0),
        b"IDAT": packed + packer.flush(),
        b"IEND": b"",
    }
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks.items():
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def test_20000_by_20000_pixels_are_refused_without_decoding(tmp_path):
    """Would catch a small file that needs a gigabyte, or Pillow's limit in place of ours."""
    png_of_zeros(tmp_path / "huge.png", 20_000)
    tracemalloc.start()
    for function in (upright_size, open_rgb):
        with pytest.raises(StudyError, match=r"huge\.png.*max_pixels \(100000000\)"):
            function(tmp_path / "huge.png", max_pixels=100_000_000)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    # A higher limit works too: Pillow's own limit of 179 million pixels does not apply.
    png_of_zeros(tmp_path / "large.png", 14_000)
    assert upright_size(tmp_path / "large.png", max_pixels=200_000_000) == (14_000, 14_000)


def test_strip_that_would_grow_is_refused(tmp_path):
    """Would catch an image of a thousand pixels that is resized to fifty million."""
    folder = tmp_path / "photos"
    folder.mkdir()
    noise(np.random.default_rng(6), 1, 1000).save(folder / "strip.png")
    manifest = manifest_of(folder, ["strip.png"])
    with pytest.raises(
        StudyError, match=r"strip\.png: 1 × 1000 pixels would be resized to 224 × 224000"
    ):
        write_pack(tmp_path / "pack", folder, manifest, "shorter224", max_pixels=MAX_PIXELS)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("extension", ["jpg", "png", "gif", "tif", "webp", "bmp"])
def test_damaged_images_are_read_or_named(tmp_path, extension):
    """Would catch any type of decoder error (struct.error, IndexError, …) that does not name the file."""
    rng = np.random.default_rng(7)
    path = tmp_path / f"a.{extension}"
    exif = Image.Exif()
    exif[274] = 6
    noise(rng, 32, 24).save(path, **({"exif": exif} if extension in ("jpg", "png", "webp") else {}))
    whole = path.read_bytes()
    messages = []
    for _ in range(150):
        damaged = bytearray(whole)
        # Most decoder errors come from damaged headers.
        for place in rng.integers(0, min(len(whole), 400), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(len(whole) // 2, len(whole) + 1)])
        for function in (upright_size, open_rgb):
            try:
                function(path, max_pixels=MAX_PIXELS)
            except StudyError as error:
                messages.append(str(error))
    assert messages
    assert all(str(path) in message for message in messages)
