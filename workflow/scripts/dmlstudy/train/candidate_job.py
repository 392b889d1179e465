"""The job of a candidate: options, training, and its scores."""

from functools import partial

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.train import job
from dmlstudy.train.candidate import try_recipe

TABLES = {"images": "table that hold_out.py writes"}


def main(description, source):
    """A whole program. ``source``: where its images come from, such as `job.Packs`."""
    parser = job.parser(description, "candidate", TABLES, source)
    parser.add_argument("--out", required=True, help="scores")
    parser.add_argument("--out-cost", required=True)
    args = parser.parse_args()

    def work():
        recipe = job.recipe_of(args)

        def write(result):
            scores, cost = result
            write_json(args.out, scores)
            write_json(args.out_cost, cost)

        train = partial(try_recipe, recipe, pd.read_csv(args.images), kind=source.trainer)
        state = job.state_beside(args.out)
        job.run(args, recipe, TABLES, state, train, write, source=source)

    console.run(work, args.log)
