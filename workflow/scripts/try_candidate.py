"""Train one candidate of a selection on a part of the seen classes' training images, and score it."""

import argparse
import json
import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy import console, gpu_slots
from dmlstudy.files import write_json
from dmlstudy.pack import Pack
from dmlstudy.trial import try_recipe


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
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        # Held until the job ends; CUDA looks for its cards later.
        reserved = gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)  # noqa: F841
        with console.Progress(args.spec["epochs"], args.name, "epochs") as progress:
            scores, cost = try_recipe(
                args.spec,
                pd.read_csv(args.images),
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                on_epoch=lambda row, rate: progress(
                    1, f"loss {row['train_loss']:.4f}, {rate:.0f} images/s"
                ),
            )
        write_json(args.out, scores)
        write_json(args.out_cost, cost)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
