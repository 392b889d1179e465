"""Build the study's table, and the table of costs, from every experiment's evaluation."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy import console
from dmlstudy.comparison import build_table
from dmlstudy.dataset import write_csv
from dmlstudy.files import read_json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", required=True, help="folder of all experiments")
    parser.add_argument("--rows", required=True, type=json.loads, help="JSON: names and details")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--all-classes", required=True)
    parser.add_argument("--limited", required=True)
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--data", required=True, help="what the images are, for every row")
    parser.add_argument("--out", required=True)
    parser.add_argument("--out-costs", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def read_run(name, seed):
        folder = Path(args.experiments) / name / f"seed{seed}"
        queries = pd.read_csv(folder / args.all_classes / "queries.csv")
        return {
            "all": read_json(folder / args.all_classes / "summary.json"),
            "limited": read_json(folder / args.limited / "summary.json"),
            "drop": read_json(folder / args.limited / "scalars.json"),
            "correct": queries["correct"].to_numpy(dtype=float),
        }

    def work():
        descriptions = {row["experiment"]: row for row in args.rows}
        runs = {name: [read_run(name, seed) for seed in args.seeds] for name in descriptions}
        write_csv(args.out, build_table(runs, descriptions, args.seeds, args.baseline, args.data))
        costs = []
        for name in descriptions:
            for seed in args.seeds:
                for class_set in (args.all_classes, args.limited):
                    path = Path(args.experiments) / name / f"seed{seed}" / class_set / "cost.json"
                    cost = read_json(path)
                    costs.append(
                        {
                            "experiment": name,
                            "seed": seed,
                            "class_set": class_set,
                            "data": args.data,
                            **cost,
                        }
                    )
        write_csv(args.out_costs, pd.DataFrame(costs))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
