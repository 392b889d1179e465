"""Do bfloat16 and float32 give the same accuracy? Every loss of the study, several seeds, drawn birds.

    nice -n 19 .venv/bin/python benchmarks/precision.py [--seeds 20] [--device cuda]

Short trainings at 32 pixels, like those of the demo: 20 species, starting from the weights of a classifier
of 24 other species; on a CPU in several processes with one thread each.
Hardware with bfloat16 uses it. On other hardware its arithmetic is emulated: products of bfloat16 numbers
are summed in float32, and the sum is rounded to bfloat16. (torch's own kernels for such CPUs sum gradients
in bfloat16, which is several times less precise, and ten times as slow.)

Prints mean precision@1, its standard error over seeds, and the difference in units of its standard error.
Ends with exit code 1 if that is two or more. By chance this happens for one in twenty differences with
twenty seeds, and for one in twelve with five seeds.
"""

import argparse
import contextlib
import itertools
import logging
import multiprocessing
import os
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
from measuring import add_results_option, at_least_one, machine, write_results
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.compute.devices import choose_device, has_native_bfloat16
from dmlstudy.data.birds import write_archive
from dmlstudy.data.dataset import Dataset, make_class_set, make_split
from dmlstudy.data.manifest import make_manifest
from dmlstudy.data.pack import Pack, write_pack
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.train.initializer import pretrain
from dmlstudy.train.run import train_run

EMBEDDING = {"kind": "linear", "embedding_dim": 128}
# As in the study; neighbours of the classifier are searched in its features.
LOSSES = {
    "EPSHN, cosine": ({"kind": "epshn", "distance": "cosine", "temperature": 0.1}, EMBEDDING),
    "EPSHN, euclidean": ({"kind": "epshn", "distance": "euclidean", "temperature": 0.1}, EMBEDDING),
    "ProxyNCA": ({"kind": "proxy_nca", "softmax_scale": 1}, EMBEDDING),
    "ArcFace": ({"kind": "arcface", "margin": 28.6, "scale": 64}, EMBEDDING),
    "sub-center ArcFace": (
        {"kind": "subcenter_arcface", "margin": 28.6, "scale": 64, "sub_centers": 3},
        EMBEDDING,
    ),
    "cross-entropy": ({"kind": "crossentropy", "label_smoothing": 0.0}, {"kind": "none"}),
}
SIZE, SPECIES, OTHER_SPECIES = 32, 20, 24
RESIZES = f"shorter{round(1.1 * SIZE)}", f"shorter{SIZE}"
PRECISIONS = "float32", "bfloat16"


class SumsInFloat32(TorchDispatchMode):
    """Emulates bfloat16 matrix products and convolutions of hardware, including gradients."""

    OPERATIONS = (
        torch.ops.aten.convolution.default,
        torch.ops.aten.convolution_backward.default,
        torch.ops.aten.addmm.default,
        torch.ops.aten.mm.default,
    )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function not in self.OPERATIONS or args[0].dtype != torch.bfloat16:
            return function(*args, **kwargs)
        wide = tree_map_only(torch.Tensor, torch.Tensor.float, args)
        return tree_map_only(torch.Tensor, torch.Tensor.bfloat16, function(*wide, **kwargs))


def arithmetic(precision, device):
    """Context in which a training uses the arithmetic of hardware with bfloat16."""
    if precision == "float32" or has_native_bfloat16(device):
        return contextlib.nullcontext()
    return SumsInFloat32()


def birds(
    folder, species, images_per_class, first, threads, *, image_size=48, resizes=RESIZES
):  # fmt: skip
    """Draw birds into ``folder`` and write a pack of each of ``resizes``; returns a `Dataset`.

    ``image_size``: shorter side of the drawn images in pixels.
    """
    archive, images = folder / "birds.tgz", folder / "birds"
    folder.mkdir()
    write_archive(
        archive, classes=species, images_per_class=images_per_class, image_size=image_size, seed=7,
        first_class=first, threads=threads,
    )  # fmt: skip
    with tarfile.open(archive) as tar:
        tar.extractall(images, filter="data")
    manifest = make_manifest(images, "cub", max_pixels=10**6)
    for resize in resizes:
        write_pack(folder / resize, images, manifest, resize, max_pixels=10**6, threads=threads)
    split = make_split(manifest, method="stratified", test_share=0.2, seed=42)
    return Dataset(manifest, split, make_class_set(species, "all_classes", unseen=0))


def packs(folder):
    """Training and test pack."""
    return [Pack(folder / resize) for resize in RESIZES]


def recipe(loss, head, args, **changes):
    short = {
        "optimizer": {"kind": "sgd", "lr": 0.05},
        "epochs": args.epochs,
        "batch_size": 64,
        "image_size": SIZE,
        "compute_threads": 1,
        "device": args.device,
        "eval_every": args.epochs or 1,
    }
    return make_recipe(loss=loss, head=head, **{**short, **changes})


def starting_weights(path, args):
    """Write the backbone of a classifier of other species, trained in float32."""
    folder = path.parent / "others"
    dataset = birds(folder, OTHER_SPECIES, args.images_per_class // 2, SPECIES, args.jobs)
    spec = recipe(
        *LOSSES["cross-entropy"],
        args,
        optimizer={"kind": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 0.0},
        schedule={"kind": "constant", "warmup": 2},
        epochs=4 * args.epochs,
        precision="float32",
        seed=42,
    )
    save_weights(path, pretrain(spec, dataset, *packs(folder))[0].state_dict())


def accuracy(dataset, folder, weights, spec):
    """precision@1 of all queries after a training."""
    # The warning is about torch's own emulation.
    logging.getLogger("dmlstudy.compute.devices").setLevel(logging.ERROR)
    with arithmetic(spec.precision, torch.device(spec.device)):
        return train_run(spec, dataset, *packs(folder), weights).curve[-1]["test_accuracy"]


def accuracies(train, args):
    """{(loss, precision): array of a precision@1 per seed}."""
    order = list(itertools.product(args.losses, range(42, 42 + args.seeds), PRECISIONS))
    specs = [
        recipe(*LOSSES[loss], args, precision=precision, seed=seed)
        for loss, seed, precision in order
    ]
    found = {pair: [] for pair in itertools.product(args.losses, PRECISIONS)}
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for (loss, seed, precision), value in zip(order, pool.imap(train, specs), strict=True):
            found[loss, precision].append(value)
            print(f"{loss}, seed {seed}, {precision}: {value:.3f}", file=sys.stderr, flush=True)
    return {pair: np.array(values) for pair, values in found.items()}


def row(loss, found):
    """A line of the table; ``found``: {precision: precision@1 per seed}."""
    line = {"loss": loss, "seeds": len(found["float32"])}
    for precision, values in found.items():
        line[precision] = values.mean()
        line[f"{precision}_standard_error"] = values.std(ddof=1) / np.sqrt(len(values))
    line["difference"] = line["bfloat16"] - line["float32"]
    error = np.hypot(line["float32_standard_error"], line["bfloat16_standard_error"])
    line["in_standard_errors"] = line["difference"] / error if error else 0.0
    return line


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seeds", type=at_least_one, default=20, help="how many, from 42 on")
    parser.add_argument("--losses", nargs="+", choices=list(LOSSES), default=list(LOSSES))
    parser.add_argument("--images-per-class", type=at_least_one, default=60)
    parser.add_argument("--epochs", type=at_least_one, default=4)
    parser.add_argument(
        "--jobs", type=at_least_one, help="trainings at a time; default: cores, or 1 on a GPU"
    )
    add_results_option(parser)
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error("--seeds: a standard error needs two or more")
    device = choose_device(args.device)
    args.device = device.type
    args.jobs = args.jobs or (1 if args.device == "cuda" else cores)
    with tempfile.TemporaryDirectory() as working:
        weights, folder = Path(working) / "weights.pt", Path(working) / "own"
        starting_weights(weights, args)
        dataset = birds(folder, SPECIES, args.images_per_class, 0, args.jobs)
        train = partial(accuracy, dataset, folder, weights)
        start = train(
            recipe(*LOSSES["cross-entropy"], args, epochs=0, precision="float32", seed=42)
        )
        found = accuracies(train, args)
    rows = [row(loss, {one: found[loss, one] for one in PRECISIONS}) for loss in args.losses]
    failed = [one["loss"] for one in rows if abs(one["in_standard_errors"]) >= 2]
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    images, queries = (len(dataset.images(part)) for part in ("train", "test"))
    lines = [
        machine("torch", "pytorch-metric-learning", gpu=gpu),
        f"bfloat16 {'of the hardware' if has_native_bfloat16(device) else 'emulated'}; {images} training "
        f"images and {queries} queries of {SPECIES} drawn species, {SIZE} pixels, {args.epochs} epochs, "
        f"{args.seeds} seeds from 42 on; chance {1 / SPECIES:.3f}, features of the starting weights {start:.3f}",
        "",
        f"{'loss':<20}float32          bfloat16         difference  in standard errors",
        *(
            f"{one['loss']:<20}{one['float32']:.3f} ± {one['float32_standard_error']:.3f}    "
            f"{one['bfloat16']:.3f} ± {one['bfloat16_standard_error']:.3f}    "
            f"{one['difference']:+10.3f}  {one['in_standard_errors']:+18.2f}"
            for one in rows
        ),
        "",
        f"{'DOES NOT HOLD: ' + '; '.join(failed) if failed else 'holds'}: less than two standard errors",
    ]
    write_results(args.results, "precision", "\n".join(lines), rows)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
