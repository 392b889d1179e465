"""Train an initializer: a backbone's weights, from training images of seen classes only."""

import os
from functools import partial

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core import console
from dmlstudy.core.files import write_digest, write_json
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.train import job
from dmlstudy.train.initializer import pretrain


def main():
    parser = job.parser(__doc__, "initializer", job.DATASET_TABLES)
    parser.add_argument("--out-weights", required=True)
    parser.add_argument("--out-curve", required=True)
    parser.add_argument("--out-check", required=True)
    parser.add_argument("--out-cost", required=True)
    args = parser.parse_args()

    def work():
        recipe = job.recipe_of(args)
        dataset = Dataset.read(args.manifest, args.split, args.class_set)

        def write(result):
            backbone, curve, check, cost = result
            save_weights(args.out_weights, backbone.state_dict())
            write_digest(args.out_weights)
            columns = ["epoch", "train_loss", "seconds"]
            write_csv(args.out_curve, pd.DataFrame(curve, columns=columns))
            write_json(args.out_check, check)
            write_json(args.out_cost, cost)

        state = job.state_beside(args.out_weights)
        train = partial(pretrain, recipe, dataset)
        job.run(args, recipe, job.DATASET_TABLES, state, train, write)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
