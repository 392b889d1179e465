"""Split the images of a data set such that copies, or groups of photographs, stand in one part."""

import argparse
import logging

import pandas as pd

from dmlstudy.core import console
from dmlstudy.data.dataset import duplicates, read_manifest, write_csv
from dmlstudy.data.grouped_split import DROPPED, groups_of, make_grouped_split, shares


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the data set")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--method", choices=("stratified", "official"), default="stratified")
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--duplicates", choices=("keep", "together", "drop"), default="keep")
    parser.add_argument(
        "--copies", help="table of find_copies.py; needed unless duplicates are kept"
    )
    parser.add_argument("--group-column", help="column of the table that tells groups")
    parser.add_argument("--group-pattern", help="regular expression on paths that tells groups")
    parser.add_argument("--csv", help="name of the table")
    parser.add_argument("--out", required=True)
    parser.add_argument("--out-groups", required=True, help="table of groups and what they changed")
    parser.add_argument(
        "--out-duplicates", required=True, help="table of files with the same bytes"
    )
    parser.add_argument("--log")
    args = parser.parse_args()
    if args.duplicates != "keep" and not args.copies:
        parser.error("--duplicates together and drop need --copies")

    def work():
        manifest = read_manifest(args.manifest)
        copies = args.copies and pd.read_csv(args.copies, keep_default_na=False)
        groups = groups_of(
            args.images,
            manifest["path"].tolist(),
            column=args.group_column,
            pattern=args.group_pattern,
            csv=args.csv,
        )
        split, changes = make_grouped_split(
            manifest,
            method=args.method,
            test_share=args.test_share,
            seed=args.seed,
            duplicates=args.duplicates,
            copies=copies,
            groups=groups,
        )
        used = (split["part"] != DROPPED).to_numpy()
        by_class = shares(manifest, split)
        parts = split["part"].value_counts()
        tested = parts["test"] / (parts["train"] + parts["test"])
        logging.info(
            "test share %.4f (asked for: %s); by class %.4f (%s) to %.4f (%s)",
            tested,
            args.test_share if args.method == "stratified" else "the data set's own split",
            *(by_class.min(), by_class.idxmin(), by_class.max(), by_class.idxmax()),
        )
        conflicts = changes["why"].str.contains("several classes")
        for words, rows in (
            ("dropped: copies of them are in several classes", conflicts),
            ("dropped: copies of others", (changes["part"] == DROPPED) & ~conflicts),
        ):
            if rows.any():
                logging.warning("%d photograph(s) %s; see %s", rows.sum(), words, args.out_groups)
        moved = changes["why"].str.startswith("moved")
        logging.info("%d photographs in groups, %d of them moved", len(changes), moved.sum())
        table = duplicates(manifest[used], split[used])
        count = table.loc[table["problem"] == "in two classes", "group"].nunique()
        if count:
            logging.warning("%d file(s) in two classes; see %s", count, args.out_duplicates)
        write_csv(args.out_duplicates, table)
        write_csv(args.out_groups, changes)
        write_csv(args.out, split)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
