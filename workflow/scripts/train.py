"""Train one run, the model of an experiment, class set and seed, and embed all images with it."""

import argparse
import json
import os
import shutil
from pathlib import Path

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd

from dmlstudy import console, gpu_slots
from dmlstudy.batches import MEAN, STD
from dmlstudy.checkpoints import save_weights
from dmlstudy.dataset import Dataset, write_csv
from dmlstudy.files import atomic_path, read_json, write_json
from dmlstudy.live_curve import live_curve
from dmlstudy.pack import Pack
from dmlstudy.training import train_run

CURVE = ["epoch", "train_loss", "test_accuracy", "seconds"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the recipe as JSON")
    parser.add_argument("--name", default="run", help="what to call it while it runs")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-set", required=True, help="table of the classes to train on")
    parser.add_argument("--train-pack", required=True)
    parser.add_argument("--test-pack", required=True)
    parser.add_argument("--weights", help="backbone weights to start from; none: random")
    parser.add_argument("--chosen", help="a selection's chosen.json, whose recipe is added to it")
    parser.add_argument("--out", required=True, help="folder of the run")
    parser.add_argument("--log")
    args = parser.parse_args()
    if args.chosen:
        args.spec |= read_json(args.chosen)["recipe"]
    folder = Path(args.out)
    # Undeclared: the workflow removes declared outputs before a job, this stays readable.
    state = folder / "state"

    def work():
        # Held until the job ends; CUDA looks for its cards later.
        reserved = gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)  # noqa: F841
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        curve = []
        with console.Progress(max(1, args.spec["epochs"]), args.name, "epochs") as progress:

            def on_epoch(row, rate):
                curve.append(row)
                write_csv(state / "curves.csv", pd.DataFrame(curve, columns=CURVE))
                words = [f"{rate:.0f} images/s"]
                if row.get("test_accuracy") is not None:
                    words.insert(0, f"accuracy {row['test_accuracy']:.3f}")
                if row["train_loss"] is not None:
                    words.insert(0, f"loss {row['train_loss']:.4f}")
                progress(1, ", ".join(words))

            run = train_run(
                args.spec,
                dataset,
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                on_epoch,
            )
        save_weights(
            folder / "model.pt",
            {
                "model": run.model.state_dict(),
                "loss": run.loss.state_dict(),
                "recipe": args.spec,
                "class_set": dataset.class_set,
                "class_ids": np.flatnonzero(dataset.seen).tolist(),
                "class_names": dataset.class_names,
                "test_resize": Path(args.test_pack).name.removeprefix("pack_"),
                "mean": MEAN,
                "std": STD,
            },
        )
        with atomic_path(folder / "embeddings.npz") as part, open(part, "wb") as stream:
            np.savez(stream, **run.embeddings)
        write_csv(folder / "curves.csv", pd.DataFrame(run.curve, columns=CURVE))
        write_json(folder / "cost.json", run.cost)
        shutil.rmtree(state, ignore_errors=True)

    class_set = Path(args.class_set).stem
    console.run(live_curve(folder, args.name, class_set, args.spec)(work), args.log)


if __name__ == "__main__":
    main()
