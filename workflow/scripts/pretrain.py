"""Train an initializer: a backbone's weights, from training images of seen classes only."""

import argparse
import json
import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy import console, gpu_slots
from dmlstudy.checkpoints import save_weights
from dmlstudy.dataset import Dataset, write_csv
from dmlstudy.files import write_digest, write_json
from dmlstudy.pack import Pack
from dmlstudy.pretraining import pretrain


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
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        # Held until the job ends; CUDA looks for its cards later.
        reserved = gpu_slots.take_for(args.spec, args.train_pack, args.test_pack)  # noqa: F841
        dataset = Dataset.read(args.manifest, args.split, args.class_set)
        with console.Progress(args.spec["epochs"], args.name, "epochs") as progress:
            backbone, curve, check, cost = pretrain(
                args.spec,
                dataset,
                Pack(args.train_pack),
                Pack(args.test_pack),
                args.weights,
                on_epoch=lambda row, rate: progress(
                    1, f"loss {row['train_loss']:.4f}, {rate:.0f} images/s"
                ),
            )
        save_weights(args.out_weights, backbone.state_dict())
        write_digest(args.out_weights)
        write_csv(args.out_curve, pd.DataFrame(curve, columns=["epoch", "train_loss", "seconds"]))
        write_json(args.out_check, check)
        write_json(args.out_cost, cost)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
