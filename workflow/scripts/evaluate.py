"""Evaluate all models of one experiment from their stored embeddings. Trains and embeds nothing."""

import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.evaluation import evaluate_experiment
from dmlstudy.evaluate.experiment_options import (
    class_sets,
    embeddings_of_run,
    experiment_parser,
    run_folder,
)


def main():
    parser = experiment_parser(__doc__)
    parser.add_argument("--vote-neighbours", type=int, nargs="*", default=[1, 5, 10, 20])
    parser.add_argument("--recall-at", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--enrolment-images", type=int, nargs="*", default=[1, 2, 5, 10, 20])
    parser.add_argument("--enrolment-draws", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        sets = class_sets(args)

        def read_run(seed, class_set):
            curve = pd.read_csv(run_folder(args, seed, class_set) / "curves.csv")
            return embeddings_of_run(args, seed, class_set), float(curve["test_accuracy"].iloc[-1])

        def write(name, value):
            if name.endswith(".json"):
                write_json(folder / name, {"data": args.data, **value})
            else:
                write_csv(folder / name, value)

        evaluate_experiment(
            sets,
            args.seeds,
            read_run,
            write,
            recall_at=args.recall_at,
            votes=args.vote_neighbours,
            enrolment_images=args.enrolment_images,
            enrolment_draws=args.enrolment_draws,
            bootstrap_draws=args.bootstrap_draws,
            bootstrap_seed=args.bootstrap_seed,
            threads=args.threads,
        )

    console.run(work, args.log)


if __name__ == "__main__":
    main()
