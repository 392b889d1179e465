"""Speed of a training epoch, compared with the original notebook and an upper bound, on the same images.

    .venv/bin/python benchmarks/training.py [--sizes 224 64] [--rounds 5]
    .venv/bin/python benchmarks/training.py --device cuda      (CUB's size, ResNet18 and ResNet50)

JPEGs of 500 × 375 pixels are drawn.

- The notebook's way opens them with Pillow and transforms each one (resize, random crop, flip,
  normalisation) in a DataLoader: without workers, as published, and with one persistent worker per core;
  float32, contiguous.
- Ours is the code of this project on a pack that exists already. First the program checks that both give
  equal pixels.
- The upper bound is our step on one batch that stays in memory, without any input.
- On a GPU, ours also runs without CUDA graphs (first the program checks that both give the same weights
  bit for bit), and with pytorch-metric-learning's EPSHN, which waits for the GPU in every step.

The notebook's way and ours run in separate processes, because ours changes settings of torch. Network,
loss (EPSHN), optimizer, batch size and number of steps (except with --published-images) are the same. No
evaluation; float32, and bfloat16 if the hardware has it. The arms alternate, after a warm-up; results are
medians over rounds. Needs neither Snakemake, FAISS nor W&B.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd
import torch
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
from torchvision import transforms
from torchvision.transforms import functional

from dmlstudy.compute.cuda_graphs import GraphedModel
from dmlstudy.compute.devices import choose_device, has_native_bfloat16
from dmlstudy.data.pack import Pack, write_pack
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.train.building import build_model
from dmlstudy.train.trainer import Trainer, train_epoch

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED, WORKERS = "notebook, no workers", "notebook, workers"


def recipe(backbone, size, batch, precision, device, threads):
    """The study's baseline, EPSHN with SGD."""
    return make_recipe(
        backbone=backbone,
        image_size=size,
        batch_size=batch,
        precision=precision,
        device=device.type,
        compute_threads=threads,
        epochs=1,
    )


class Photographs(torch.utils.data.Dataset):
    """Like torchvision's ImageFolder: an image, opened by Pillow and transformed, and its label."""

    def __init__(self, paths, labels, transform):
        self.paths, self.labels, self.transform = paths, labels, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        with open(self.paths[row], "rb") as stream:
            image = Image.open(stream).convert("RGB")
        return self.transform(image), self.labels[row]


class NotebooksWay:
    """The original's training loop: float32, contiguous, a DataLoader, the loss read at every step."""

    def __init__(self, spec, photographs, classes, workers, device):
        self.device = device
        # The same step, without our optimisations.
        model, self.loss = build_model(spec.changed(image_size=224), classes, spec.seed)
        self.model = model.to(device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=spec.optimizer["lr"])
        self.loader = torch.utils.data.DataLoader(
            photographs,
            batch_size=spec.batch_size,
            shuffle=True,
            num_workers=workers,
            multiprocessing_context=loader_context(workers),
            persistent_workers=workers > 0,
            pin_memory=workers > 0 and device.type == "cuda",
        )

    def epoch(self):
        total = 0.0
        for images, labels in self.loader:
            images, labels = images.to(self.device), labels.to(self.device)
            self.optimizer.zero_grad()
            loss = self.loss(self.model(images), labels)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total


class UpperBound:
    """Our step, repeated on one batch in the memory of the device."""

    def __init__(self, trainer, steps):
        self.trainer, self.steps = trainer, steps
        rows = torch.as_tensor(trainer.rows[: trainer.recipe.batch_size])
        self.batch = (
            trainer.augment(rows, torch.Generator().manual_seed(0)),
            torch.as_tensor(trainer.labels[: len(rows)]).to(trainer.device),
        )

    def epoch(self):
        one = self.trainer
        batches = [self.batch] * self.steps
        precision = one.recipe.precision
        train_epoch(one.trained_model, one.loss, one.optimizer, batches, one.device, precision)


def published_transform(size, shorter):
    return transforms.Compose(
        [
            transforms.Resize(shorter),
            transforms.RandomCrop(size),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )


def check_pixels(images, paths, size, shorter, count=8):
    """Exit unless the notebook's way and ours give the same values for the same crops."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.randint(len(paths), (count,), generator=draw)
    tops = torch.randint(shorter - size + 1, (count,), generator=draw)
    lefts = torch.randint(shorter - size + 1, (count,), generator=draw)
    flips = torch.arange(count) % 2 == 0
    ours = images.normalise(images.crops(rows, tops, lefts, flips)).cpu()
    for index, row in enumerate(rows.tolist()):
        image = functional.resize(Image.open(paths[row]).convert("RGB"), shorter)
        image = functional.crop(image, int(tops[index]), int(lefts[index]), size, size)
        image = functional.hflip(image) if flips[index] else image
        theirs = functional.normalize(functional.to_tensor(image), MEAN, STD)
        torch.testing.assert_close(ours[index], theirs, atol=1e-5, rtol=1e-5)


def require_graphs(trainer):
    """Exit if the GPU has too little free memory for a valid measurement."""
    if not isinstance(trainer.trained_model, GraphedModel) or trainer.images.cut_on_host:
        sys.exit("this GPU has no room for a pack and CUDA graphs; measure fewer --images")


def check_graphs(spec, pack, rows, labels, classes):
    """Exit unless a training gives the same weights with and without CUDA graphs."""
    few = min(len(rows), 3 * spec.batch_size + 2)
    found = []
    for graphs in (True, False):
        trainer = Trainer(spec.changed(cuda_graphs=graphs), pack, rows[:few], labels[:few], classes)
        if graphs:
            require_graphs(trainer)
        trainer.train_epoch()
        trainer.train_epoch()
        found.append(trainer.model.state_dict())
    for name, values in found[0].items():
        if not torch.equal(values, found[1][name]):
            sys.exit(f"{name} differs between a training with CUDA graphs and one without")


def matrix_rate(device, side=8192, repetitions=20):
    """Floating point operations per second of bfloat16 products of square matrices."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for number in range(repetitions + 3):
        if number == 3:
            begun.record()
        one @ other
    ended.record()
    torch.cuda.synchronize(device)
    return 2 * side**3 * repetitions / (begun.elapsed_time(ended) / 1000)


def operations_per_image(backbone, size):
    """Floating point operations of a training step per image, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    from dmlstudy.compute.embedding_model import build_backbone

    network = build_backbone(backbone, size).module.train()
    with FlopCounterMode(display=False) as counter:
        network(torch.randn(2, 3, size, size)).sum().backward()
    return counter.get_total_flops() / 2


def notebooks_arms(backbone, size, args, device, folder):
    """{name: function that trains one epoch} of the notebook's way."""
    torch.set_num_threads(args.threads)
    paths, names, labels = listed(folder)
    spec = recipe(backbone, size, args.batch_size, "float32", device, args.threads)
    arms = {}
    for name, workers, count in (
        (PUBLISHED, 0, args.published_images),
        (WORKERS, args.workers, len(paths)),
    ):
        transform = published_transform(size, round(size * 1.1))
        photographs = Photographs(paths[:count], labels[:count], transform)
        arms[name] = NotebooksWay(spec, photographs, len(names), workers, device).epoch
    return arms


def our_arms(backbone, size, args, device, folder, precision):
    """The same for ours and for the upper bound."""
    shorter = round(size * 1.1)
    paths, names, labels = listed(folder)
    pack = Pack(folder / f"pack_shorter{shorter}")
    data = (pack, np.arange(len(paths)), np.array(labels), len(names))
    steps = -(-len(paths) // args.batch_size)
    spec = recipe(backbone, size, args.batch_size, precision, device, args.threads)
    others = {}
    if device.type == "cuda":
        check_graphs(spec, *data)
        others["kernel by kernel"] = {"cuda_graphs": False}
        others["library's EPSHN"] = {"loss": {**spec.loss, "implementation": "library"}}
    trainer = Trainer(spec, *data)
    if device.type == "cuda":
        require_graphs(trainer)
    arms = {f"ours, {precision}": trainer.train_epoch}
    for name, changes in others.items():
        begun = time.perf_counter()
        other = Trainer(spec.changed(**changes), *data)
        other.train_epoch()
        seconds = time.perf_counter() - begun
        print(f"{name}, {precision}: {seconds:.0f} s to begin, with an epoch", file=sys.stderr)
        arms[f"{name}, {precision}"] = other.train_epoch
    arms[f"upper bound, {precision}"] = UpperBound(trainer, steps).epoch
    check_pixels(trainer.images, paths, size, shorter)
    return arms


def listed(folder):
    """Paths of the images, names of the classes, and the label of each image."""
    paths = sorted((folder / "images").glob("*/*.jpg"))
    names = sorted({path.parent.name for path in paths})
    return paths, names, [names.index(path.parent.name) for path in paths]


def measure(backbone, size, args, device, folder):
    """Rows of the table for one backbone and size."""
    shorter = round(size * 1.1)
    paths, *_ = listed(folder)
    pack = folder / f"pack_shorter{shorter}"
    if not pack.exists():
        manifest = pd.DataFrame({"path": paths, "width": SIZE[0], "height": SIZE[1]})
        write_pack(pack, "/", manifest, f"shorter{shorter}", max_pixels=10**6, threads=args.threads)
    arguments = (backbone, size, args, device, folder)
    # A notebook does not use huge pages; importing our library turns them on.
    precisions = ["float32"] + (["bfloat16"] if has_native_bfloat16(device) else [])
    sides = [
        Side(notebooks_arms, arguments, THP_MEM_ALLOC_ENABLE="0"),
        *(Side(our_arms, (*arguments, precision)) for precision in precisions),
    ]
    arms = {name: partial(side.run, name) for side in sides for name in side.names}
    seconds = in_turn(arms, args.rounds)
    spent = {
        # As in `in_turn`, every second run counts.
        name: statistics.median(values[1::2]) / len(paths)
        for side in sides
        for name, values in side.spent.items()
    }
    # Extrapolated to all images.
    times = len(paths) / args.published_images
    seconds[PUBLISHED] = [times * value for value in seconds[PUBLISHED]]
    spent[PUBLISHED] *= times
    for side in sides:
        side.close()
    faster = min((PUBLISHED, WORKERS), key=lambda name: statistics.median(seconds[name]))
    rows = []
    for name in arms:
        precision = name.rpartition(" ")[2] if name not in (PUBLISHED, WORKERS) else "float32"
        row = {
            "backbone": backbone,
            "size": size,
            "batch_size": args.batch_size,
            "images": len(paths),
            "arm": name,
            "images_per_second": len(paths) / statistics.median(seconds[name]),
            "times_notebook_no_workers": ratio(seconds, PUBLISHED, name),
            "times_notebook_workers": ratio(seconds, WORKERS, name),
            "times_faster_notebook": ratio(seconds, faster, name),
            "processor_ms_per_image": 1000 * spent[name],
            "share_of_upper_bound": ratio(seconds, f"upper bound, {precision}", name),
        }
        if device.type == "cuda" and name == "upper bound, bfloat16":
            row["share_of_matrix_rate"] = (
                row["images_per_second"] * operations_per_image(backbone, size) / args.matrix_rate
            )
        rows.append(row)
    return rows


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--sizes", type=at_least_one, nargs="+", help="default: 224 and 64; GPU: 224"
    )
    parser.add_argument("--backbones", nargs="+", help="default: resnet18; GPU: resnet50 as well")
    parser.add_argument(
        "--images", type=at_least_one, help="default: two batches; GPU: CUB's 9,430"
    )
    parser.add_argument(
        "--published-images",
        type=at_least_one,
        help="images per epoch without workers; default: all",
    )
    parser.add_argument(
        "--distinct", type=at_least_one, default=400, help="number of different images"
    )
    parser.add_argument("--batch-size", type=at_least_one, default=128)
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--workers", type=int, default=cores)
    parser.add_argument("--threads", type=at_least_one, default=cores)
    add_results_option(parser)
    args = parser.parse_args()
    device = choose_device(args.device)
    cuda = device.type == "cuda"
    args.matrix_rate = matrix_rate(device) if cuda else None
    count = args.images or (9430 if cuda else 2 * args.batch_size)
    args.published_images = min(args.published_images or count, count)
    rows = []
    with tempfile.TemporaryDirectory() as working:
        classes = min(200, count // 4)
        make_images(Path(working) / "images", count, args.distinct, classes=classes)
        for backbone in args.backbones or (["resnet18", "resnet50"] if cuda else ["resnet18"]):
            for size in args.sizes or ([224] if cuda else [224, 64]):
                rows += measure(backbone, size, args, device, Path(working))
    lines = [
        machine(
            "torch",
            "torchvision",
            "pytorch-metric-learning",
            gpu=torch.cuda.get_device_name(device) if cuda else None,
        ),
        f"{count} JPEGs of 500 × 375 ({classes} classes), batches of {args.batch_size}, "
        f"{args.rounds} rounds, {args.threads} threads, {args.workers} workers",
    ]
    if args.published_images < count:
        lines.append(
            f"without workers: {args.published_images} images per epoch, extrapolated to all"
        )
    if cuda:
        lines.append(f"bfloat16 products of matrices: {args.matrix_rate / 1e12:.0f} TFLOP/s")
    lines += [
        "",
        "backbone  size  arm                      images/s  × published  × with workers  of upper bound  processor ms/image",
    ]
    for row in rows:
        lines.append(
            f"{row['backbone']:<9} {row['size']:>4}  {row['arm']:<24} {row['images_per_second']:>8.1f}"
            f"  {row['times_notebook_no_workers']:>11.2f}  {row['times_notebook_workers']:>14.2f}"
            f"  {row['share_of_upper_bound']:>14.2f}"
            f"  {row['processor_ms_per_image']:>18.1f}"
        )
        if "share_of_matrix_rate" in row:
            lines.append(f"{'':16}which is {row['share_of_matrix_rate']:.0%} of the matrix rate")
    write_results(args.results, "training", "\n".join(lines), rows)


if __name__ == "__main__":
    main()
