"""Train one candidate of a selection on a part of the seen classes' training images, and score it."""

import argparse
import json
import os
from pathlib import Path

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.compute import gpu_slots
from dmlstudy.core import console
from dmlstudy.core.files import follower, write_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.pack import Pack, digest_files
from dmlstudy.train.candidate import try_recipe
from dmlstudy.train.resume import saved_state


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=json.loads, help="the recipe as JSON")
    parser.add_argument("--name", default="candidate", help="what to call it while it runs")
    parser.add_argument("--images", required=True, help="the table that hold_out.py writes")
    parser.add_argument("--train-pack", required=True)
    parser.add_argument("--test-pack", required=True)
    parser.add_argument("--weights", help="backbone weights to start from; none: random")
    parser.add_argument("--out", required=True, help="scores")
    parser.add_argument("--out-cost", required=True)
    parser.add_argument(
        "--code", default="", help="digest of the code: what other code stored is not used"
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=1, help="epochs between stored states"
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    out = Path(args.out)

    def work():
        end_at_signals()
        files = {
            "images": args.images,
            "weights": args.weights and follower(args.weights),
            **digest_files(args.train_pack, args.test_pack),
        }
        # Undeclared: the workflow removes declared outputs before a job.
        state = out.with_name(f"{out.stem}_state")
        with saved_state(state, args.spec, args.code, files, args.checkpoint_every) as saved:
            train(saved)

    def train(saved):
        # Not before an older process, which may hold the card, was told to end.
        gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)
        done, total = len(saved.curve), args.spec["epochs"]
        with console.Progress(total, args.name, "epochs", done=done) as progress:
            scores, cost = try_recipe(
                args.spec,
                pd.read_csv(args.images),
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                lambda row, rate: progress(1, f"loss {row['train_loss']:.4f}, {rate:.0f} images/s"),
                saved,
            )
        saved.check_outputs()
        write_json(out, scores)
        write_json(args.out_cost, cost)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
