"""Train an initializer: a backbone's weights, from training images of seen classes only."""

import argparse
import json
import os
from pathlib import Path

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.compute import gpu_slots
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core import console
from dmlstudy.core.files import follower, write_digest, write_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.data.pack import Pack, digest_files
from dmlstudy.train.initializer import pretrain
from dmlstudy.train.resume import saved_state


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the recipe as JSON")
    parser.add_argument("--name", default="initializer", help="what to call it while it runs")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-set", required=True, help="table of the classes to train on")
    parser.add_argument("--train-pack", required=True)
    parser.add_argument("--test-pack", required=True)
    parser.add_argument("--weights", help="backbone weights to start from; none: random")
    parser.add_argument("--out-weights", required=True)
    parser.add_argument("--out-curve", required=True)
    parser.add_argument("--out-check", required=True)
    parser.add_argument("--out-cost", required=True)
    parser.add_argument(
        "--code", default="", help="digest of the code: what other code stored is not used"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=1, help="epochs between stored states"
    )
    parser.add_argument("--log")
    args = parser.parse_args()
    weights = Path(args.out_weights)

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
        # Undeclared: the workflow removes declared outputs before a job.
        state = weights.with_name(f"{weights.stem}_state")
        with saved_state(state, args.spec, args.code, files, args.checkpoint_every) as saved:
            train(dataset, saved)

    def train(dataset, saved):
        # Not before an older process, which may hold the card, was told to end.
        gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)
        done, total = len(saved.curve), args.spec["epochs"]
        with console.Progress(total, args.name, "epochs", done=done) as progress:
            backbone, curve, check, cost = pretrain(
                args.spec,
                dataset,
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                lambda row, rate: progress(1, f"loss {row['train_loss']:.4f}, {rate:.0f} images/s"),
                saved,
            )
        saved.check_outputs()
        save_weights(weights, backbone.state_dict())
        write_digest(weights)
        write_csv(args.out_curve, pd.DataFrame(curve, columns=["epoch", "train_loss", "seconds"]))
        write_json(args.out_check, check)
        write_json(args.out_cost, cost)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
