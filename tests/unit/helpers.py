"""What several test files need: tiny data sets, packs, recipes, embeddings."""

import contextlib
import io
import runpy
import sys

import numpy as np
import pandas as pd
import torch
from PIL import Image

from dmlstudy.data.dataset import Dataset, make_class_set, make_split
from dmlstudy.data.images import upright_size
from dmlstudy.data.pack import Pack, write_pack
from dmlstudy.plan.recipe_factory import make_recipe

torch.set_num_threads(1)

MAX_PIXELS = 1_000_000


def noise(rng, width, height):
    """An image whose pixels are all different, so that a shift by one pixel shows."""
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def unit(rng, count, dim):
    """Random L2-normalised float32 vectors (count, dim)."""
    vectors = rng.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def manifest_of(folder, paths, class_ids=None):
    """A manifest of images that lie in ``folder``."""
    sizes = [upright_size(folder / path, max_pixels=MAX_PIXELS) for path in paths]
    class_ids = [0] * len(paths) if class_ids is None else class_ids
    return pd.DataFrame(
        {
            "image_id": range(len(paths)),
            "path": paths,
            "class_id": class_ids,
            "class_name": [f"class {index}" for index in class_ids],
            "width": [width for width, _ in sizes],
            "height": [height for _, height in sizes],
        }
    )


def pack_of(folder, paths, resize, threads=1):
    """The pack of images that lie in ``folder``, written beside it."""
    out = folder.parent / f"pack_{resize}_{threads}"
    write_pack(
        out, folder, manifest_of(folder, paths), resize, max_pixels=MAX_PIXELS, threads=threads
    )
    return Pack(out)


class TinyStudy:
    """Noise images in classes that differ in colour: manifest, split, class sets and packs."""

    def __init__(self, folder, classes=6, images=6, unseen=2, size=32):
        images_folder = folder / "images"
        images_folder.mkdir()
        rng = np.random.default_rng(5)
        paths, class_ids = [], []
        for class_id in range(classes):
            colour = rng.integers(0, 200, 3)
            for index in range(images):
                pixels = colour + rng.integers(0, 56, (36, 40, 3))
                paths.append(f"{class_id}_{index}.png")
                class_ids.append(class_id)
                Image.fromarray(pixels.astype(np.uint8)).save(images_folder / paths[-1])
        self.manifest = manifest_of(images_folder, paths, class_ids)
        self.split = make_split(self.manifest, method="stratified", test_share=0.2, seed=42)
        self.class_sets = {
            name: make_class_set(classes, name, unseen=count)
            for name, count in (("all_classes", 0), ("limited_classes", unseen))
        }
        self.train_pack = pack_of(images_folder, paths, f"shorter{size + 3}")
        self.test_pack = pack_of(images_folder, paths, f"shorter{size}")

    def dataset(self, class_set="all_classes"):
        return Dataset(self.manifest, self.split, self.class_sets[class_set])


def small_recipe(**changes):
    """The `Recipe` of a small run; ``changes`` replace whole fields."""
    small = {
        "head": {"kind": "linear", "embedding_dim": 8},
        "optimizer": {"kind": "sgd", "lr": 0.01},
        "epochs": 2,
        "batch_size": 8,
        "image_size": 32,
        "precision": "float32",
        "compute_threads": 1,
        "device": "cpu",
    }
    return make_recipe(**{**small, **changes})


def run_program(script, *arguments):
    """Run a program in this process, where torch may be imported already; returns (exit code, stdout, stderr)."""
    out, errors = io.StringIO(), io.StringIO()
    before, sys.argv, code = sys.argv, [str(script), *map(str, arguments)], 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        code = end.code
        if isinstance(code, str):
            errors.write(code)
    finally:
        sys.argv = before
    return code, out.getvalue(), errors.getvalue()
