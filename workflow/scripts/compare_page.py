"""Build the page that compares all experiments, from the study's tables."""

import argparse

import pandas as pd

from dmlstudy import console
from dmlstudy.files import write_text
from dmlstudy.reports import index_page


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", required=True, help="experiments.csv of the comparison")
    parser.add_argument("--published", required=True, help="its published.csv")
    parser.add_argument("--published-deductions", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--note", default="", help="what every reader must know about the data")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        tables = [
            pd.read_csv(path, keep_default_na=False, na_values=[""])
            for path in (args.table, args.published, args.published_deductions)
        ]
        write_text(args.out, index_page(*tables, args.dataset, args.note))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
