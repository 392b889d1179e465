"""The pack: a data set decoded once into one file of uint8 pixels.

A folder with ``pixels.bin`` (height × width × 3 bytes per image, one after the other) and
``index.npz`` (offsets in bytes, heights, widths). Resizing equals torchvision's PIL transforms to
the pixel, since it is the same call of Pillow with the same sizes.
"""

import hashlib
import os
import shutil
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import numpy as np

from dmlstudy.core.files import StudyError, follower, part_of, write_digest, writing
from dmlstudy.data.images import open_rgb
from dmlstudy.data.resizing import parse_resize

# Images that a process takes at a time.
CHUNK = 32


def refuse_strip(path, width, height, resize, max_pixels):
    """Raise StudyError for a long, narrow picture that grows beyond ``max_pixels`` when resized."""
    new_width, new_height = parse_resize(resize).size_of(width, height)
    if new_width * new_height > max_pixels:
        raise StudyError(
            f"{path}: {width} × {height} pixels would become {new_width} × {new_height}, which is "
            f"more than dataset.max_pixels ({max_pixels})"
        )


def write_pack(folder, images_root, manifest, resize, *, max_pixels, threads=1, progress=None):
    """Decode every image of the manifest once, from the original, and write the pack ``folder``.

    ``threads`` processes work side by side (Pillow keeps Python's lock for a fifth of the time, which
    threads would wait for); pixels do not depend on them. Memory holds a picture for each. StudyError
    names the first image that cannot be read, has changed since the manifest was made or becomes larger
    than ``max_pixels`` (a strip of which the shorter side grows), or a full disk; nothing is left then.
    """
    resize_by = parse_resize(resize)
    paths = [str(Path(images_root) / path) for path in manifest["path"]]
    originals = [
        (int(width), int(height))
        for width, height in zip(manifest["width"], manifest["height"], strict=True)
    ]
    for path, (width, height) in zip(paths, originals, strict=True):
        refuse_strip(path, width, height, resize, max_pixels)
    sizes = [resize_by.size_of(width, height) for width, height in originals]
    widths, heights = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(widths * heights * 3)
    offsets = np.concatenate([[0], ends[:-1]])
    folder = Path(folder)
    with writing(folder):
        part = part_of(folder)
        part.mkdir(parents=True)
        try:
            with open(part / "pixels.bin", "wb+", buffering=0) as pixels:
                decode = partial(
                    _decode, resize=resize_by, target=pixels.name, max_pixels=max_pixels
                )
                tasks = list(zip(paths, originals, offsets.tolist(), strict=True))
                digest, buffer = hashlib.sha256(), bytearray(int((ends - offsets).max()))
                # While the others decode: reading all again afterwards would take a core's time for it.
                for row, _ in enumerate(_in_order(decode, tasks, threads)):
                    written = memoryview(buffer)[: ends[row] - offsets[row]]
                    if pixels.readinto(written) != len(written):
                        raise StudyError(f"{pixels.name}: image {row} could not be read back")
                    digest.update(written)
                    if progress:
                        progress(1)
            with open(part / "index.npz", "wb") as stream:
                np.savez(stream, offsets=offsets, heights=heights, widths=widths)
            write_digest(part / "pixels.bin", digest.hexdigest())
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _decode(task, *, resize, target, max_pixels):
    """Write the resized pixels of a (path, original size, offset in bytes) to ``target``."""
    path, original, offset = task
    picture = open_rgb(path, max_pixels=max_pixels)
    if picture.size != original:
        raise StudyError(f"{path}: is {picture.size}, but the manifest says {original}")
    picture = resize.apply(picture)
    # Written, not mapped: pages of a mapped file would count as memory of the process.
    with open(target, "r+b", buffering=0) as pixels:
        pixels.seek(offset)
        content = memoryview(picture.tobytes())
        while content:
            content = content[pixels.write(content) :]


def _in_order(function, tasks, processes):
    """``map(function, tasks)``, by so many processes where there is work for more than one."""
    processes = min(processes, -(-len(tasks) // CHUNK))
    if processes <= 1:
        _keep_memory()
        yield from map(function, tasks)
        return
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_begin_helper
    )
    try:
        yield from pool.map(function, tasks, chunksize=CHUNK)
    except BrokenProcessPool:
        # Python ends the helpers that it knows of; one that was just being started it would wait for.
        for helper in active_children():
            helper.kill()
        raise StudyError(
            "a process that decodes images was killed, perhaps because memory ran out"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_helper():
    _keep_memory()

    def watch():
        # When the program was killed its helpers would wait for work for ever.
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _keep_memory():
    """Let the C library keep freed memory for the next picture.

    glibc returns memory to the system above a threshold, which is the largest block freed so far;
    fetching it again, page by page, for each picture costs a fifth of the time.
    """
    bytes(16 << 20)


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


def digest_files(train, test):
    """Small files that tell two packs, folders, by content: {what it is: path}."""
    return {
        f"{part}_{name}": follower(Path(folder) / f"{name}{suffix}")
        for part, folder in (("train", train), ("test", test))
        for name, suffix in (("index", ".npz"), ("pixels", ".bin"))
    }
