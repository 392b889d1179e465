"""The pack: a data set decoded once into one file of uint8 pixels.

A folder with ``pixels.bin`` (height × width × 3 bytes per image, one after the other) and
``index.npz`` (offsets in bytes, heights, widths). Resizing equals torchvision's PIL transforms to
the pixel, since it is the same call of Pillow with the same sizes.
"""

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


def write_pack(folder, images_root, manifest, resize, *, max_pixels, threads=1, progress=None):
    """Decode every image of the manifest once, from the original, and write the pack ``folder``.

    Pixels do not depend on ``threads``. Memory holds a few images a thread. StudyError names the
    first image that cannot be read or has changed since the manifest was made; nothing is left then.
    """
    mode, size = parse_resize(resize)
    sizes = [
        resized_size(width, height, mode, size)
        for width, height in zip(manifest["width"], manifest["height"], strict=True)
    ]
    widths, heights = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(widths * heights * 3)
    offsets = np.concatenate([[0], ends[:-1]])
    folder, root = Path(folder), Path(images_root)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        pixels = np.memmap(part / "pixels.bin", np.uint8, "w+", shape=(int(ends[-1]),))

        def decode(row):
            path = root / manifest["path"].iat[row]
            picture = open_rgb(path, max_pixels=max_pixels)
            expected = (manifest["width"].iat[row], manifest["height"].iat[row])
            if picture.size != expected:
                raise StudyError(f"{path}: is {picture.size}, but the manifest says {expected}")
            if picture.size != sizes[row]:
                picture = picture.resize(sizes[row], Image.Resampling.BILINEAR)
            pixels[offsets[row] : ends[row]] = np.asarray(picture).reshape(-1)

        pool = ThreadPoolExecutor(threads)
        try:
            for _ in pool.map(decode, range(len(manifest))):
                if progress:
                    progress(1)
        finally:
            pool.shutdown(cancel_futures=True)
        pixels.flush()
        with open(part / "index.npz", "wb") as stream:
            np.savez(stream, offsets=offsets, heights=heights, widths=widths)
        write_digest(part / "pixels.bin")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


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
