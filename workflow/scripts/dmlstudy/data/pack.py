"""The pack: a data set decoded once into one file of uint8 pixels.

A pack is a folder with ``pixels.bin`` (height × width × 3 bytes per image, in order of image id) and
``index.npz`` (offsets in bytes, heights, widths). Pixels equal those of torchvision's PIL transforms
exactly, because the resize is the same call of Pillow with the same sizes.
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

from dmlstudy.core.files import StudyError, follower, temporary_path, write_digest, writing
from dmlstudy.data.images import open_rgb
from dmlstudy.data.resizing import parse_resize

# Images per task of a process.
CHUNK = 32


def check_resized_size(path, width, height, resize, max_pixels):
    """Raise StudyError if a long, narrow image would have more than ``max_pixels`` after resizing."""
    new_width, new_height = parse_resize(resize).size_of(width, height)
    if new_width * new_height > max_pixels:
        raise StudyError(
            f"{path}: {width} × {height} pixels would be resized to {new_width} × {new_height}, which "
            f"is more than dataset.max_pixels ({max_pixels})"
        )


def write_pack(folder, images_root, manifest, resize, *, max_pixels, threads=1, progress=None):
    """Decode every image of the manifest from its original and write the pack ``folder``.

    ``resize``: shorter246, squash224, …; ``threads``: number of processes. (Processes, because Pillow
    holds Python's lock for 20 % of the time.) Each process holds one image in memory. The pixels do not
    depend on the number of processes. ``progress(1)`` is called after each image.

    Raises StudyError for the first image that cannot be read, that has changed since the manifest was
    made, or that would have more than ``max_pixels`` after resizing, and for a full disk. No incomplete
    pack is left.
    """
    resize_by = parse_resize(resize)
    paths = [str(Path(images_root) / path) for path in manifest["path"]]
    originals = [
        (int(width), int(height))
        for width, height in zip(manifest["width"], manifest["height"], strict=True)
    ]
    for path, (width, height) in zip(paths, originals, strict=True):
        check_resized_size(path, width, height, resize, max_pixels)
    sizes = [resize_by.size_of(width, height) for width, height in originals]
    widths, heights = np.array(sizes, dtype=np.int64).T
    ends = np.cumsum(widths * heights * 3)
    offsets = np.concatenate([[0], ends[:-1]])
    folder = Path(folder)
    with writing(folder):
        temporary = temporary_path(folder)
        temporary.mkdir(parents=True)
        try:
            with open(temporary / "pixels.bin", "wb+", buffering=0) as pixels:
                decode = partial(
                    _decode, resize=resize_by, target=pixels.name, max_pixels=max_pixels
                )
                tasks = list(zip(paths, originals, offsets.tolist(), strict=True))
                digest, buffer = hashlib.sha256(), bytearray(int((ends - offsets).max()))
                # Digest while other processes decode; afterwards it would be extra time.
                for row, _ in enumerate(_in_order(decode, tasks, threads)):
                    written = memoryview(buffer)[: ends[row] - offsets[row]]
                    if pixels.readinto(written) != len(written):
                        raise StudyError(f"{pixels.name}: image {row} cannot be read back")
                    digest.update(written)
                    if progress:
                        progress(1)
            with open(temporary / "index.npz", "wb") as stream:
                np.savez(stream, offsets=offsets, heights=heights, widths=widths)
            write_digest(temporary / "pixels.bin", digest.hexdigest())
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _decode(task, *, resize, target, max_pixels):
    """Write the resized pixels of one image to ``target``.

    ``task``: (path, original (width, height), offset in bytes); ``resize``: a `Resize`.
    """
    path, original, offset = task
    image = open_rgb(path, max_pixels=max_pixels)
    if image.size != original:
        raise StudyError(
            f"{path}: the image has {image.width} × {image.height} pixels, but the manifest says "
            f"{original[0]} × {original[1]}; delete the manifest to list the images again"
        )
    image = resize.apply(image)
    # Written, not memory-mapped: pages of a mapped file count as memory of the process.
    with open(target, "r+b", buffering=0) as pixels:
        pixels.seek(offset)
        content = memoryview(image.tobytes())
        while content:
            content = content[pixels.write(content) :]


def _in_order(function, tasks, processes):
    """``map(function, tasks)`` with up to ``processes`` processes; results come in order."""
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
        # Python would wait for ever for a helper that was just starting when the pool broke.
        for helper in active_children():
            helper.kill()
        raise StudyError(
            "a process that decodes images was killed, perhaps because the memory is full; "
            "use fewer threads or more memory"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_helper():
    _keep_memory()

    def watch():
        # If the main program is killed, its helpers must not wait for work for ever.
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _keep_memory():
    """Make the C library keep freed memory for the next image.

    glibc returns freed blocks to the system if they are larger than a threshold, which grows to the
    largest block freed so far. Getting this memory again for every image takes 20 % of the time.
    """
    bytes(16 << 20)


class Pack:
    """An open pack: ``pixels`` (uint8 memory map, flat), ``offsets``, ``heights``, ``widths`` (int64)."""

    def __init__(self, folder):
        folder = Path(folder)
        # Copy-on-write mode: nothing is written back, and torch can wrap the array without a warning.
        self.pixels = np.memmap(folder / "pixels.bin", np.uint8, "c")
        with np.load(folder / "index.npz") as index:
            self.offsets = index["offsets"]
            self.heights = index["heights"]
            self.widths = index["widths"]

    def __len__(self):
        return len(self.offsets)

    def image(self, row):
        """Image ``row`` as a uint8 array (height, width, 3), a view of the memory map."""
        shape = (self.heights[row], self.widths[row], 3)
        start = self.offsets[row]
        return self.pixels[start : start + np.prod(shape)].reshape(shape)


def digest_files(train, test):
    """Small files that identify the content of two packs (folders): {name: path}."""
    return {
        f"{part}_{name}": follower(Path(folder) / f"{name}{suffix}")
        for part, folder in (("train", train), ("test", test))
        for name, suffix in (("index", ".npz"), ("pixels", ".bin"))
    }
