"""Score how well the models of one experiment reject, from their stored embeddings. Trains nothing."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core import console
from dmlstudy.core.options import check_input, check_number
from dmlstudy.data.dataset import Dataset, write_csv
from dmlstudy.evaluate.rejection_scores import score_experiment
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
    parser.add_argument(
        "--untrained",
        action="store_true",
        help="the models were not trained on any image of the data set",
    )
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out-scores", required=True, help="table of scores to write")
    parser.add_argument("--out-thresholds", required=True, help="table of thresholds to write")
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        check_number("--threads", args.threads, least=1)
        check_number("--bootstrap-draws", args.bootstrap_draws, least=1)
        check_input("--experiment", folder, folder=True)
        sets = [Dataset.read(args.manifest, args.split, path) for path in args.class_sets]
        tables = score_experiment(
            sets,
            args.seeds,
            lambda seed, class_set: read_embeddings(
                folder / f"seed{seed}" / class_set / "embeddings.npz"
            ),
            untrained=args.untrained,
            draws=args.bootstrap_draws,
            seed=args.bootstrap_seed,
            threads=args.threads,
        )
        for path, table in zip((args.out_scores, args.out_thresholds), tables, strict=True):
            table.insert(0, "experiment", folder.name)
            table.insert(1, "data", args.data)
            write_csv(path, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
