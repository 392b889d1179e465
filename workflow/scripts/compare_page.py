"""Build the page that compares all experiments, and its plots, from the study's tables."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_text
from dmlstudy.pages.comparison_page import TABLES, comparison_pages


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparison", required=True, help="folder of the study's tables")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--note", default="", help="text about the data for the top of the page")
    parser.add_argument(
        "--links",
        required=True,
        type=json.loads,
        help="JSON: {experiment: [link from the folder, link inside a Snakemake report]}",
    )
    parser.add_argument("--out", required=True, help="folder for index.html and plot_*.html")
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.comparison)

    def work():
        tables = {
            name: pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
            for name in TABLES
        }
        pages = comparison_pages(tables, args.dataset, args.note, args.links)
        for name, page in pages.items():
            write_text(Path(args.out) / f"{name}.html", page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
