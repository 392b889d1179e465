"""Train one run (the model of an experiment, class set and seed) and embed all images with it."""

import os
from functools import partial
from pathlib import Path

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

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


def main():
    parser = job.parser(__doc__, "run", job.DATASET_TABLES)
    parser.add_argument("--out", required=True, help="folder of the run")
    args = parser.parse_args()

    def work():
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
                    "test_resize": Path(args.test_pack).name.removeprefix("pack_"),
                    "mean": run.model.preprocessing.mean,
                    "std": run.model.preprocessing.std,
                },
            )
            with atomic_path(folder / "embeddings.npz") as path, open(path, "wb") as stream:
                np.savez(stream, **run.embeddings)
            write_csv(folder / "curves.csv", pd.DataFrame(run.curve, columns=CURVE))
            write_json(folder / "cost.json", run.cost)

        train = partial(train_run, recipe, dataset)
        with live_curve(folder, args.name, dataset.class_set, recipe.as_dict()):
            job.run(args, recipe, job.DATASET_TABLES, state, train, write, after_epoch)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
