"""The job of a run: options, training, and the files of the run's folder."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core import console
from dmlstudy.core.files import atomic_path, write_json
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.track.live_curve import live_curve
from dmlstudy.train import job
from dmlstudy.train.run import train_run

CURVE = ["epoch", "train_loss", "test_accuracy", "seconds"]


def main(description, source):
    """A whole program. ``source``: where its images come from, such as `job.Packs`."""
    parser = job.parser(description, "run", job.DATASET_TABLES, source)
    parser.add_argument("--out", required=True, help="folder of the run")
    args = parser.parse_args()
    console.run(lambda: _work(args, source), args.log)


def _work(args, source):
    recipe, folder = job.recipe_of(args), Path(args.out)
    dataset = Dataset.read(args.manifest, args.split, args.class_set)
    # No declared output, so that the curve can be read while the run trains.
    state, curve = folder / "state", {}

    def after_epoch(row):
        curve[row["epoch"]] = row
        write_csv(state / "curves.csv", pd.DataFrame(curve.values(), columns=CURVE))

    def write(run):
        save_weights(
            folder / "model.pt",
            {
                "model": run.model.state_dict(),
                "loss": run.loss.state_dict(),
                "recipe": recipe.as_dict(),
                "class_set": dataset.class_set,
                "class_ids": np.flatnonzero(dataset.seen).tolist(),
                "class_names": dataset.class_names,
                "test_resize": source(args).test_resize,
                "mean": run.model.preprocessing.mean,
                "std": run.model.preprocessing.std,
            },
        )
        with atomic_path(folder / "embeddings.npz") as path, open(path, "wb") as stream:
            np.savez(stream, **run.embeddings)
        write_csv(folder / "curves.csv", pd.DataFrame(run.curve, columns=CURVE))
        write_json(folder / "cost.json", run.cost)

    train = partial(train_run, recipe, dataset, kind=source.trainer)
    with live_curve(folder, args.name, dataset.class_set, recipe.as_dict()):
        job.run(args, recipe, job.DATASET_TABLES, state, train, write, after_epoch, source=source)
