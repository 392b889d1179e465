"""Tell the health of an experiment's trainings from their finished tables."""

import argparse
from pathlib import Path

import yaml

from dmlstudy.core import console
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.health_table import health_table, log_findings
from dmlstudy.evaluate.stored_runs import StoredRuns


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument(
        "--start",
        help="name of the untrained row with the same backbone and initializer, beside the experiment",
    )
    parser.add_argument("--data", required=True, help="name of the data, for every table")
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        runs = StoredRuns.read(folder.parent, [folder.name], args.seeds, args.class_sets)
        described = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        table = health_table(
            runs,
            folder.name,
            described["recipe"],
            args.start,
            draws=args.bootstrap_draws,
            seed=args.bootstrap_seed,
        )
        log_findings(table)
        table.insert(1, "data", args.data)
        write_csv(args.out, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
