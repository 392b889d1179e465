"""Train one candidate of a selection on some training images of the seen classes, and score it."""

import os
from functools import partial

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.train import job
from dmlstudy.train.candidate import try_recipe

TABLES = {"images": "table that hold_out.py writes"}


def main():
    parser = job.parser(__doc__, "candidate", TABLES)
    parser.add_argument("--out", required=True, help="scores")
    parser.add_argument("--out-cost", required=True)
    args = parser.parse_args()

    def work():
        recipe = job.recipe_of(args)

        def write(result):
            scores, cost = result
            write_json(args.out, scores)
            write_json(args.out_cost, cost)

        train = partial(try_recipe, recipe, pd.read_csv(args.images))
        job.run(args, recipe, TABLES, job.state_beside(args.out), train, write)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
