"""Split the images of a data set into training and test images."""

import argparse
import logging

from dmlstudy.core import console
from dmlstudy.data.dataset import duplicates, make_split, read_manifest, write_csv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--method", choices=("stratified", "official"), default="stratified")
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", required=True)
    parser.add_argument(
        "--out-duplicates", required=True, help="table of files with the same bytes"
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        manifest = read_manifest(args.manifest)
        split = make_split(
            manifest,
            method=args.method,
            test_share=args.test_share,
            seed=args.seed,
        )
        table = duplicates(manifest, split)
        for problem in ("in two classes", "in two parts"):
            count = table.loc[table["problem"] == problem, "group"].nunique()
            if count:
                logging.warning("%d file(s) %s; see %s", count, problem, args.out_duplicates)
        write_csv(args.out_duplicates, table)
        write_csv(args.out, split)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
