"""Compare features and ways of answering over experiments that were not fitted. Trains nothing."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, read_json
from dmlstudy.core.options import check_input, check_number
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.answer_hits import HITS, AnswerHits
from dmlstudy.evaluate.combinations import (
    combination_table,
    cost_table,
    joined_queries,
    stranger_table,
)
from dmlstudy.evaluate.stored_runs import StoredRuns

TABLES = ("answers", "answers_costs", "rejection_thresholds")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", required=True, help="folder of all experiments")
    parser.add_argument(
        "--features",
        required=True,
        type=json.loads,
        help="JSON: {experiment: cost.json of its stored features}",
    )
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--out", required=True, help="folder for the tables")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        check_number("--bootstrap-draws", args.bootstrap_draws, least=1)
        tables = {name: {} for name in TABLES}
        for experiment in args.features:
            for name in TABLES:
                path = Path(args.experiments) / experiment / f"{name}.csv"
                check_input("--experiments", path)
                tables[name][experiment] = pd.read_csv(path)
        runs = StoredRuns.read(args.experiments, args.features, [], args.class_sets)
        seen = {name: runs.class_sets[name] for name in runs.limited}
        hits = {name: AnswerHits.read(runs.root / name / HITS) for name in runs.experiments}
        try:
            queries = joined_queries(hits, seen, runs.full)
        except ValueError as error:
            raise StudyError(f"--experiments {args.experiments}: {error}") from None
        combinations = combination_table(
            queries, runs.full, draws=args.bootstrap_draws, seed=args.bootstrap_seed
        )
        strangers = stranger_table(tables["answers"], tables["rejection_thresholds"], runs.full)
        costs = {name: read_json(path) for name, path in args.features.items()}
        out = Path(args.out)
        write_csv(out / "accuracy.csv", combinations)
        write_csv(out / "strangers.csv", strangers)
        write_csv(out / "costs.csv", cost_table(tables["answers_costs"], costs))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
