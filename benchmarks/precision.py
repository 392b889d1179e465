"""Do bfloat16 and float32 find the same? Every loss of the study, several seeds, on drawn birds.

    nice -n 19 .venv/bin/python benchmarks/precision.py [--seeds 42 43 44 45 46] [--device cuda]

Short trainings from random weights at 32 pixels, in both precisions; where the hardware has no bfloat16
it is emulated, which is slow and as exact. Prints mean precision@1, its standard error over seeds
and the difference in standard errors of a difference; ends with 1 where it is two or more. One in ten
such differences of five seeds is larger by chance alone.
"""

import argparse
import os
import sys
import tarfile
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from measuring import add_results_option, machine, write_results

from dmlstudy.birds import write_archive
from dmlstudy.dataset import Dataset, make_class_set, make_manifest, make_split
from dmlstudy.devices import choose_device
from dmlstudy.pack import Pack, write_pack
from dmlstudy.training import train_run

LOSSES = {
    "EPSHN, cosine": {"kind": "epshn", "distance": "cosine", "temperature": 0.1},
    "EPSHN, euclidean": {"kind": "epshn", "distance": "euclidean", "temperature": 0.1},
    "ProxyNCA": {"kind": "proxy_nca", "softmax_scale": 1},
    "ArcFace": {"kind": "arcface", "margin": 28.6, "scale": 64},
    "sub-center ArcFace": {
        "kind": "subcenter_arcface",
        "margin": 28.6,
        "scale": 64,
        "sub_centers": 3,
    },
    "cross-entropy": {"kind": "crossentropy", "label_smoothing": 0.0},
}
SIZE, CLASSES = 32, 12


def birds(folder, images_per_class, threads):
    """(dataset, training pack, test pack) of drawn birds."""
    archive, images = folder / "birds.tgz", folder / "birds"
    write_archive(
        archive, classes=CLASSES, images_per_class=images_per_class, image_size=48, seed=7, threads=threads
    )  # fmt: skip
    with tarfile.open(archive) as tar:
        tar.extractall(images, filter="data")
    manifest = make_manifest(images, "cub", max_pixels=10**6)
    packs = []
    for resize in (f"shorter{round(1.1 * SIZE)}", f"shorter{SIZE}"):
        write_pack(folder / resize, images, manifest, resize, max_pixels=10**6, threads=threads)
        packs.append(Pack(folder / resize))
    split = make_split(manifest, method="stratified", test_share=0.3, validation_share=0, seed=42)
    return Dataset(manifest, split, make_class_set(CLASSES, "all_classes", unseen=0)), *packs


def recipe(loss, precision, seed, args):
    return {
        "backbone": "resnet18",
        "frozen_batchnorm": False,
        "head": {"kind": "linear", "embedding_dim": 128},
        "loss": loss,
        "augmentation": {"kind": "crop_flip"},
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0},
        "schedule": {"kind": "constant"},
        "loss_lr": None,
        "epochs": args.epochs,
        "batch_size": 16,
        "samples_per_class": None,
        "image_size": SIZE,
        "precision": precision,
        "compute_threads": args.threads,
        "device": args.device,
        "eval_every": args.epochs,
        "seed": seed,
    }


def standard_error(values):
    return np.std(values, ddof=1) / np.sqrt(len(values))


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44, 45, 46])
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores)
    add_results_option(parser)
    args = parser.parse_args()
    args.device = choose_device(args.device).type
    rows, failed = [], []
    with tempfile.TemporaryDirectory() as working:
        dataset, *packs = birds(Path(working), args.images_per_class, args.threads)
        for name, loss in LOSSES.items():
            found = {
                precision: np.array(
                    [
                        train_run(recipe(loss, precision, seed, args), dataset, *packs).curve[-1][
                            "test_accuracy"
                        ]
                        for seed in args.seeds
                    ]
                )
                for precision in ("float32", "bfloat16")
            }
            errors = {precision: standard_error(values) for precision, values in found.items()}
            difference = found["bfloat16"].mean() - found["float32"].mean()
            error = float(np.hypot(*errors.values()))
            if abs(difference) >= 2 * error:
                failed.append(name)
            rows.append(
                {
                    "loss": name,
                    "seeds": len(args.seeds),
                    "float32": found["float32"].mean(),
                    "float32_standard_error": errors["float32"],
                    "bfloat16": found["bfloat16"].mean(),
                    "bfloat16_standard_error": errors["bfloat16"],
                    "difference": difference,
                    "in_standard_errors": difference / error if error else 0.0,
                }
            )
    queries, images = len(dataset.images("test")), len(dataset.images("train"))
    lines = [
        machine("torch", "pytorch-metric-learning"),
        f"{images} training images and {queries} queries of {CLASSES} drawn species, {SIZE} pixels, "
        f"{args.epochs} epochs, {len(args.seeds)} seeds; chance {1 / CLASSES:.3f}",
        "",
        f"{'loss':<20}float32          bfloat16         difference  in standard errors",
        *(
            f"{row['loss']:<20}{row['float32']:.3f} ± {row['float32_standard_error']:.3f}    "
            f"{row['bfloat16']:.3f} ± {row['bfloat16_standard_error']:.3f}    "
            f"{row['difference']:+10.3f}  {row['in_standard_errors']:+18.2f}"
            for row in rows
        ),
        "",
        f"{'DOES NOT HOLD: ' + ', '.join(failed) if failed else 'holds'}: less than two standard errors",
    ]
    write_results(args.results, "precision", "\n".join(lines), rows)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
