"""Speed of a SimCLR epoch, compared with lightly's transforms, on the same images.

    .venv/bin/python benchmarks/simclr.py [--sizes 224 32] [--rounds 3]

This project makes the two views of a whole batch on the device. lightly's transform takes one image at a
time, here in a DataLoader with as many workers as cores; it opens JPEGs (the usual way), or takes images
from the pack (so that only the transforms differ). The training step is the same in all arms: network,
loss, optimizer, batches and their number. The arms alternate, after a warm-up; medians over rounds.
"""

import argparse
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd
import torch
from lightly.transforms import SimCLRTransform
from measuring import (
    SIZE,
    Side,
    add_results_option,
    at_least_one,
    in_turn,
    loader_context,
    machine,
    make_images,
    ratio,
    write_results,
)  # isort: skip
from PIL import Image

from dmlstudy.compute.devices import choose_device, has_native_bfloat16
from dmlstudy.data.pack import Pack, write_pack
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.train.trainer import Trainer, train_epoch

OURS, FROM_JPEGS, FROM_PACK = "ours", "lightly on JPEGs, workers", "lightly on the pack, workers"


def recipe(size, args, device):
    """The study's SimCLR."""
    return make_recipe(
        head={"kind": "simclr_projection", "hidden_dim": 512, "embedding_dim": 128},
        loss={"kind": "simclr", "temperature": 0.07},
        augmentation={"kind": "simclr"},
        optimizer={"kind": "adam", "lr": 0.0003, "weight_decay": 0.0001},
        epochs=1,
        batch_size=args.batch_size,
        image_size=size,
        compute_threads=args.threads,
        device=device.type,
    )


class TwoViews(torch.utils.data.Dataset):
    """lightly's two views of each image of ``open_image(row)``."""

    def __init__(self, count, open_image, size):
        self.count, self.open_image = count, open_image
        self.transform = SimCLRTransform(input_size=size)

    def __len__(self):
        return self.count

    def __getitem__(self, row):
        return self.transform(self.open_image(row))


def open_jpeg(paths, row):
    with open(paths[row], "rb") as stream:
        return Image.open(stream).convert("RGB")


def open_packed(folder, row):
    return Image.fromarray(Pack(folder).image(row))


class LightlysWay:
    """Batches of lightly's views, with the training step of this project."""

    def __init__(self, trainer, dataset, workers):
        self.trainer = trainer
        self.loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=trainer.recipe.batch_size,
            shuffle=True,
            num_workers=workers,
            multiprocessing_context=loader_context(workers),
            persistent_workers=workers > 0,
            pin_memory=trainer.device.type == "cuda",
        )

    def batches(self):
        for views in self.loader:
            # Each tensor separately: a tensor made from pinned tensors is not pinned.
            device = self.trainer.device
            images = torch.cat([view.to(device, non_blocking=True) for view in views])
            yield images.contiguous(memory_format=torch.channels_last), None

    def epoch(self):
        one = self.trainer
        train_epoch(
            one.trained_model,
            one.loss,
            one.optimizer,
            self.batches(),
            one.device,
            one.recipe.precision,
        )


def our_arms(size, args, device, folder):
    pack = Pack(folder / f"pack_shorter{round(size * 1.1)}")
    trainer = Trainer(recipe(size, args, device), pack, np.arange(len(pack)), _labels(pack), 1)
    return {OURS: trainer.train_epoch}


def lightlys_arms(size, args, device, folder):
    path = folder / f"pack_shorter{round(size * 1.1)}"
    pack = Pack(path)
    spec = recipe(size, args, device)
    paths = sorted((folder / "images").glob("*/*.jpg"))
    arms = {}
    for name, opened in (
        (FROM_JPEGS, partial(open_jpeg, paths)),
        (FROM_PACK, partial(open_packed, path)),
    ):
        trainer = Trainer(spec, pack, np.arange(len(pack)), _labels(pack), 1)
        dataset = TwoViews(len(pack), opened, size)
        arms[name] = LightlysWay(trainer, dataset, args.workers).epoch
    return arms


def _labels(pack):
    return np.zeros(len(pack), dtype=np.int64)


def measure(size, args, device, folder):
    """Rows of the table for one size, of all images in ``folder``."""
    paths = sorted((folder / "images").glob("*/*.jpg"))
    name = f"shorter{round(size * 1.1)}"
    if not (folder / f"pack_{name}").exists():
        manifest = pd.DataFrame({"path": paths, "width": SIZE[0], "height": SIZE[1]})
        write_pack(
            folder / f"pack_{name}", "/", manifest, name, max_pixels=10**6, threads=args.threads
        )
    sides = [Side(make, (size, args, device, folder)) for make in (our_arms, lightlys_arms)]
    arms = {arm: partial(side.run, arm) for side in sides for arm in side.names}
    seconds = in_turn(arms, args.rounds)
    for side in sides:
        side.close()
    return [
        {
            "size": size,
            "batch_size": args.batch_size,
            "images": len(paths),
            "arm": arm,
            "images_per_second": len(paths) / statistics.median(seconds[arm]),
            "times_lightly_on_jpegs": ratio(seconds, FROM_JPEGS, arm),
            "times_lightly_on_pack": ratio(seconds, FROM_PACK, arm),
            "processor_ms_per_image": 1000 * statistics.median(side.spent[arm][1::2]) / len(paths),
        }
        for side in sides
        for arm in side.names
    ]


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--sizes", type=at_least_one, nargs="+", default=[224, 32])
    parser.add_argument(
        "--images", type=at_least_one, help="default: two batches; GPU: CUB's 9,430"
    )
    parser.add_argument(
        "--distinct", type=at_least_one, default=400, help="number of different images"
    )
    parser.add_argument(
        "--batch-size", type=at_least_one, help="default: 64; GPU: 256, as the study's"
    )
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--workers", type=int, default=cores)
    parser.add_argument("--threads", type=at_least_one, default=cores)
    add_results_option(parser)
    args = parser.parse_args()
    device = choose_device(args.device)
    cuda = device.type == "cuda"
    args.batch_size = args.batch_size or (256 if cuda else 64)
    count = args.images or (9430 if cuda else 2 * args.batch_size)
    rows = []
    with tempfile.TemporaryDirectory() as working:
        folder = Path(working)
        make_images(folder / "images", count, args.distinct)
        for size in args.sizes:
            rows += measure(size, args, device, folder)
    lines = [
        f"{row['size']:>4}  {row['arm']:<28} {row['images_per_second']:>8.1f}"
        f"  {row['times_lightly_on_jpegs']:>7.2f}  {row['times_lightly_on_pack']:>6.2f}"
        f"  {row['processor_ms_per_image']:>18.1f}"
        for row in rows
    ]
    precision = "bfloat16" if has_native_bfloat16(device) else "float32"
    head = [
        machine(
            "torch", "kornia", "lightly", gpu=torch.cuda.get_device_name(device) if cuda else None
        ),
        f"{count} JPEGs of 500 × 375, ResNet18, batches of {args.batch_size} (two views each), "
        f"{precision}, {args.rounds} rounds, {args.threads} threads, {args.workers} workers",
        "",
        "size  arm                          images/s  × JPEGs  × pack  processor ms/image",
    ]
    write_results(args.results, "simclr", "\n".join(head + lines), rows)


if __name__ == "__main__":
    main()
