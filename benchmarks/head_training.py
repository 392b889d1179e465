"""Heads on stored features, against the bare loop of matrix products and loss in the same run.

    python benchmarks/head_training.py --threads 2

The bare loop takes rows of a tensor, runs the head, the loss, the gradients and the optimizer, and does
nothing else. Ours is the trainer of the rule train_head. A whole run also builds the model, writes state
and embeds all images; its curve has a point every so many epochs. Features are drawn; how many there are is
as in CUB-200-2011.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import measuring
import numpy as np
import pandas as pd
import torch

from dmlstudy.compute.features import Features
from dmlstudy.data.dataset import Dataset, make_class_set
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.train.building import build_model, build_optimizer
from dmlstudy.train.head_trainer import HeadTrainer
from dmlstudy.train.resume import SavedState
from dmlstudy.train.run import train_run

SGD = {"kind": "sgd", "lr": 0.01, "momentum": 0.9}
RECIPES = {
    "linear probe": {"head": {"kind": "none"}, "loss": {"kind": "crossentropy"}},
    "cosine classifier": {"head": {"kind": "none"}, "loss": {"kind": "normalized_softmax"}},
    "linear head, EPSHN": {"loss": {"kind": "epshn"}},
    "linear head, ArcFace": {"loss": {"kind": "arcface"}},
    "1dBN head, EPSHN, 4 per class": {
        "head": {"kind": "batchnorm"},
        "samples_per_class": 4,
        "loss": {"kind": "epshn"},
    },
}
# Width of the pooled features.
BACKBONES = {1280: "torchvision/mobilenet_v2", 2048: "resnet50"}


def drawn(images, classes, width):
    """(features, data set): vectors around a centre per class; a fifth of the images are queries."""
    rng = np.random.default_rng(0)
    class_ids = np.sort(rng.integers(0, classes, images))
    class_ids[:classes] = np.arange(classes)
    class_ids.sort()
    values = rng.standard_normal((classes, width))[class_ids]
    values = values + 2 * rng.standard_normal((images, width))
    ids = np.arange(images)
    manifest = pd.DataFrame(
        {"image_id": ids, "class_id": class_ids, "class_name": [f"c{one}" for one in class_ids]}
    )
    split = pd.DataFrame({"image_id": ids, "part": np.where(ids % 5 == 4, "test", "train")})
    dataset = Dataset(manifest, split, make_class_set(classes, "all_classes", unseen=0))
    return Features(values.astype(np.float32)), dataset


def bare(recipe, features, dataset, epochs):
    """Function that trains so many epochs without any code of ours around a step."""
    rows = dataset.images("train")
    model, loss = build_model(recipe, dataset.num_seen, recipe.seed)
    head = model.head.train()
    optimizer, _ = build_optimizer(recipe, head, loss)
    inputs, rows = torch.from_numpy(features.values), torch.from_numpy(rows)
    targets = torch.from_numpy(dataset.labels)[rows]
    order = torch.Generator().manual_seed(0)

    def work():
        for _ in range(epochs):
            for chosen in torch.randperm(len(rows), generator=order).split(recipe.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss(head(inputs[rows[chosen]]), targets[chosen]).backward()
                optimizer.step()

    return work


def ours(recipe, features, dataset, epochs):
    """Function that trains so many epochs with the trainer."""
    rows = dataset.images("train")
    trainer = HeadTrainer(recipe, features, rows, dataset.labels[rows], dataset.num_seen)

    def work():
        for _ in range(epochs):
            trainer.train_epoch()

    return work


def whole_run(recipe, features, dataset):
    """(seconds, seconds of them for the curve and the last embeddings) of a run, state included."""
    with tempfile.TemporaryDirectory() as folder:
        saved = SavedState(Path(folder) / "training.pt", "key")
        begun = time.perf_counter()
        run = train_run(recipe, dataset, features, features, saved=saved, kind=HeadTrainer)
        return time.perf_counter() - begun, run.cost["evaluation_seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=measuring.at_least_one, default=11_788)
    parser.add_argument("--classes", type=measuring.at_least_one, default=200)
    parser.add_argument("--widths", type=int, nargs="+", choices=BACKBONES, default=[1280, 2048])
    parser.add_argument("--epochs", type=measuring.at_least_one, default=2, help="of an arm")
    parser.add_argument("--run-epochs", type=measuring.at_least_one, default=100)
    parser.add_argument("--eval-every", type=measuring.at_least_one, default=10)
    parser.add_argument("--rounds", type=measuring.at_least_one, default=5)
    parser.add_argument("--threads", type=measuring.at_least_one, default=2)
    measuring.add_results_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    rows = []
    for width in args.widths:
        features, dataset = drawn(args.images, args.classes, width)
        for name, changes in RECIPES.items():
            recipe = make_recipe(
                **{
                    "backbone": BACKBONES[width],
                    "backbone_trains": False,
                    "optimizer": SGD,
                    "epochs": args.run_epochs,
                    "eval_every": args.eval_every,
                    "image_size": 224,
                    "precision": "float32",
                    "device": "cpu",
                    "compute_threads": args.threads,
                    **changes,
                }
            )
            arms = {
                "bare": bare(recipe, features, dataset, args.epochs),
                "ours": ours(recipe, features, dataset, args.epochs),
            }
            seconds = measuring.in_turn(arms, args.rounds)
            run, evaluation = whole_run(recipe, features, dataset)
            rows.append(
                {
                    "width": width,
                    "recipe": name,
                    "bare_seconds_per_epoch": statistics.median(seconds["bare"]) / args.epochs,
                    "ours_times_bare": measuring.ratio(seconds, "ours", "bare"),
                    "run_epochs": args.run_epochs,
                    "run_seconds": run,
                    "of_which_curve": evaluation,
                }
            )
    lines = [
        f"{args.images} features, {args.classes} classes, batches of 128, {args.threads} threads, "
        f"median of {args.rounds} rounds of {args.epochs} epochs; whole runs of {args.run_epochs} epochs, "
        f"a point of the curve every {args.eval_every}",
        measuring.machine("torch", "pytorch-metric-learning", "faiss-cpu"),
        "",
        f"{'width':>5}  {'recipe':<30}  bare s/epoch  ours / bare  {args.run_epochs} epochs, s  of which curve",
    ]
    lines += [
        f"{row['width']:>5}  {row['recipe']:<30}  {row['bare_seconds_per_epoch']:>12.3f}"
        f"  {row['ours_times_bare']:>11.2f}  {row['run_seconds']:>{len(str(args.run_epochs)) + 10}.1f}"
        f"  {row['of_which_curve']:>14.1f}"
        for row in rows
    ]
    measuring.write_results(args.results, "head_training", "\n".join(lines), rows)


if __name__ == "__main__":
    main()
