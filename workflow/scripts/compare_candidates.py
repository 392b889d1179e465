"""Build the table of all candidates of all selections."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import read_json
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.selection import tuning_rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", required=True, help="folder of all experiments")
    parser.add_argument(
        "--candidates",
        required=True,
        type=json.loads,
        help="JSON: pairs of an experiment and its candidates",
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        rows = []
        for name, candidates in args.candidates:
            folder = Path(args.experiments) / name / "selection"
            scores = {
                candidate: read_json(folder / f"{candidate}.json") for candidate in candidates
            }
            rows += tuning_rows(name, scores, read_json(folder / "chosen.json")["candidate"])
        write_csv(args.out, pd.DataFrame(rows))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
