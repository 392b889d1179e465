"""Train one run, the model of an experiment, class set and seed, and embed all images with it."""

import argparse
import json
import os
from pathlib import Path

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd

from dmlstudy.compute import gpu_slots
from dmlstudy.compute.batches import MEAN, STD
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core import console
from dmlstudy.core.files import atomic_path, follower, read_json, write_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.data.pack import Pack, digest_files
from dmlstudy.track.live_curve import live_curve
from dmlstudy.train.resume import saved_state
from dmlstudy.train.training import train_run

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
    parser.add_argument(
        "--code", default="", help="digest of the code: what other code stored is not used"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=1, help="epochs between stored states"
    )
    parser.add_argument("--log")
    args = parser.parse_args()
    if args.chosen:
        args.spec |= read_json(args.chosen)["recipe"]
    folder = Path(args.out)
    # Undeclared: the workflow removes declared outputs before a job, this stays readable.
    state = folder / "state"

    def work():
        end_at_signals()
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        files = {
            "manifest": args.manifest,
            "split": args.split,
            "class_set": args.class_set,
            "weights": args.weights and follower(args.weights),
            **digest_files(args.train_pack, args.test_pack),
        }
        with saved_state(state, args.spec, args.code, files, args.checkpoint_every) as saved:
            train(dataset, saved)

    def train(dataset, saved):
        # Not before an older process, which may hold the card, was told to end.
        gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)
        curve = {row["epoch"]: row for row in saved.curve}
        total = max(1, args.spec["epochs"])
        with console.Progress(total, args.name, "epochs", done=len(curve)) as progress:

            def on_epoch(row, rate):
                curve[row["epoch"]] = row
                write_csv(state / "curves.csv", pd.DataFrame(curve.values(), columns=CURVE))
                words = [f"{rate:.0f} images/s"]
                if row.get("test_accuracy") is not None:
                    words.insert(0, f"accuracy {row['test_accuracy']:.3f}")
                if row["train_loss"] is not None:
                    words.insert(0, f"loss {row['train_loss']:.4f}")
                progress(max(1, row["epoch"]) - progress.done, ", ".join(words))

            run = train_run(
                args.spec,
                dataset,
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                on_epoch,
                saved,
            )
        saved.check_outputs()
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
        with atomic_path(folder / "embeddings.npz") as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **run.embeddings)
        write_csv(folder / "curves.csv", pd.DataFrame(run.curve, columns=CURVE))
        write_json(folder / "cost.json", run.cost)

    class_set = Path(args.class_set).stem
    console.run(live_curve(folder, args.name, class_set, args.spec)(work), args.log)


if __name__ == "__main__":
    main()
