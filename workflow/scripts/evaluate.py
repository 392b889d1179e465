"""Evaluate all models of one experiment from their stored embeddings. Trains and embeds nothing."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_json
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.evaluate.evaluation import evaluate_experiment
from dmlstudy.evaluate.retrieval import read_embeddings


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--data", required=True, help="name of the data, for every table")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument("--vote-neighbours", type=int, nargs="*", default=[1, 5, 10, 20])
    parser.add_argument("--recall-at", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--enrolment-images", type=int, nargs="*", default=[1, 2, 5, 10, 20])
    parser.add_argument("--enrolment-draws", type=int, default=10)
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        sets = [Dataset.read(args.manifest, args.split, path) for path in args.class_sets]

        def read_run(seed, class_set):
            run = folder / f"seed{seed}" / class_set
            last = pd.read_csv(run / "curves.csv")["test_accuracy"].iloc[-1]
            return read_embeddings(run / "embeddings.npz"), float(last)

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
