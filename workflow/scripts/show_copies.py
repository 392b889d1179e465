"""Build a page that shows photographs which a data set holds several times, from the check-up's table."""

import argparse

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_text
from dmlstudy.pages.copies_page import copies_page


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the data set")
    parser.add_argument("--copies", required=True, help="table that find_problems.py wrote")
    parser.add_argument("--dataset", required=True, help="name of the data set")
    parser.add_argument("--duplicates", choices=("keep", "together", "drop"), default="keep")
    parser.add_argument("--near", type=int, help="bits that may differ between near duplicates")
    parser.add_argument("--max-pixels", type=int, default=100_000_000)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        table = pd.read_csv(
            args.copies,
            keep_default_na=False,
            dtype={"class_name": str, "path": str, "like": str},
        )
        page = copies_page(
            table,
            args.images,
            dataset=args.dataset,
            duplicates=args.duplicates,
            near=args.near,
            max_pixels=args.max_pixels,
        )
        write_text(args.out, page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
