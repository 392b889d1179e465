"""The pack: a data set decoded once into one file of uint8 pixels.

A folder with ``pixels.bin`` (height × width × 3 bytes per image, one after the other) and
``index.npz`` (offsets in bytes, heights, widths). Resizing equals torchvision's PIL transforms to
the pixel, since it is the same call of Pillow with the same sizes.
"""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from dmlstudy.files import StudyError, write_digest
from dmlstudy.pictures import open_rgb


def resized_size(width, height, mode, size):
    """(width, height) after ``shorter`` (shorter side to ``size``, as torchvision rounds) or ``squash``."""
    if mode == "squash":
        return size, size
    if mode != "shorter":
        raise ValueError(f"unknown resize {mode!r}; known: shorter, squash")
    if width <= height:
        return size, int(size * height / width)
    return int(size * width / height), size


def parse_resize(resize):
    """``shorter246`` as ("shorter", 246)."""
    mode = resize.rstrip("0123456789")
    return mode, int(resize[len(mode) :])


def refuse_strip(path, width, height, resize, max_pixels):
    """Raise StudyError for a long, narrow picture that grows beyond ``max_pixels`` when resized."""
    new_width, new_height = resized_size(width, height, *parse_resize(resize))
    if new_width * new_height > max_pixels:
        raise StudyError(
            f"{path}: {width} × {height} pixels would become {new_width} × {new_height}, which is "
            f"more than dataset.max_pixels ({max_pixels})"
        )


def write_pack(folder, images_root, manifest, resize, *, max_pixels, threads=1, progress=None):
    """Decode every image of the manifest once, from the original, and write the pack ``folder``.

    Pixels do not depend on ``threads``. Memory holds a few images a thread. StudyError names the
    first image that cannot be read, has changed since the manifest was made or becomes larger than
    ``max_pixels`` (a strip of which the shorter side grows); nothing is left then.
    """
    mode, size = parse_resize(resize)
    paths = [Path(images_root) / path for path in manifest["path"]]
    originals = list(zip(manifest["width"], manifest["height"], strict=True))
    sizes = [resized_size(width, height, mode, size) for width, height in originals]
    for path, (width, height) in zip(paths, originals, strict=True):
        refuse_strip(path, width, height, resize, max_pixels)
    widths, heights = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(widths * heights * 3)
    offsets = np.concatenate([[0], ends[:-1]])
    folder = Path(folder)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        with open(part / "pixels.bin", "wb+", buffering=0) as pixels:

            def decode(row):
                picture = open_rgb(paths[row], max_pixels=max_pixels)
                if picture.size != originals[row]:
                    raise StudyError(
                        f"{paths[row]}: is {picture.size}, but the manifest says {originals[row]}"
                    )
                if picture.size != sizes[row]:
                    picture = picture.resize(sizes[row], Image.Resampling.BILINEAR)
                # Written, not mapped: a mapped file would count as memory of the process.
                _write_at(pixels.fileno(), picture.tobytes(), int(offsets[row]))

            digest, buffer = hashlib.sha256(), bytearray(int((ends - offsets).max()))
            pool = ThreadPoolExecutor(threads)
            try:
                # In order, while the others decode: reading all again would cost as long as a core needs.
                for row, _ in enumerate(pool.map(decode, range(len(paths)))):
                    written = memoryview(buffer)[: ends[row] - offsets[row]]
                    if pixels.readinto(written) != len(written):
                        raise StudyError(f"{part}: image {row} could not be read back")
                    digest.update(written)
                    if progress:
                        progress(1)
            finally:
                pool.shutdown(cancel_futures=True)
        with open(part / "index.npz", "wb") as stream:
            np.savez(stream, offsets=offsets, heights=heights, widths=widths)
        write_digest(part / "pixels.bin", digest.hexdigest())
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_at(descriptor, content, offset):
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


class Pack:
    """An opened pack: ``pixels`` (memory map, uint8), ``offsets``, ``heights``, ``widths`` (int64)."""

    def __init__(self, folder):
        folder = Path(folder)
        # Copy-on-write: nothing is ever written back, and torch can wrap the array as it is.
        self.pixels = np.memmap(folder / "pixels.bin", np.uint8, "c")
        with np.load(folder / "index.npz") as index:
            self.offsets = index["offsets"]
            self.heights = index["heights"]
            self.widths = index["widths"]

    def __len__(self):
        return len(self.offsets)

    def image(self, row):
        """Image ``row`` as an array (height, width, 3)."""
        shape = (self.heights[row], self.widths[row], 3)
        start = self.offsets[row]
        return self.pixels[start : start + np.prod(shape)].reshape(shape)
