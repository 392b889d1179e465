"""Check all images, classes and duplicates of a data set and write the problems to a table."""

import argparse

from dmlstudy.core import console
from dmlstudy.data.copy_search import CopySearch
from dmlstudy.data.dataset import write_csv
from dmlstudy.data.problems import find_problems


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of the data set")
    parser.add_argument("--format", required=True)
    parser.add_argument("--classes", type=int, help="expected number of classes")
    parser.add_argument("--csv", help="name of the table, for the format that reads one")
    parser.add_argument("--max-pixels", type=int, default=100_000_000)
    parser.add_argument(
        "--resize", nargs="*", default=[], help="packs that the study makes: shorter246, …"
    )
    parser.add_argument(
        "--unseen", type=int, default=0, help="number of classes that limited models leave out"
    )
    parser.add_argument("--method", choices=("stratified", "official"), default="stratified")
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--duplicates", choices=("keep", "together", "drop"), default="keep")
    parser.add_argument("--group-column", help="column of the table that tells groups")
    parser.add_argument("--group-pattern", help="regular expression on paths that tells groups")
    parser.add_argument(
        "--near",
        type=int,
        help="bits of 128 that may differ between near duplicates; without it only files with the same bytes "
        "are copies",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out-problems", required=True)
    parser.add_argument("--out-copies", required=True, help="table of copies")
    parser.add_argument("--out-classes", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        grouping = {
            "duplicates": args.duplicates,
            "column": args.group_column,
            "pattern": args.group_pattern,
            "csv": args.csv,
        }
        grouped = args.duplicates != "keep" or args.group_column or args.group_pattern
        copies = CopySearch(args.near, max_pixels=args.max_pixels, threads=args.threads)
        with console.Progress(None, "check", "images") as progress:
            problems, classes = find_problems(
                args.images,
                args.format,
                max_pixels=args.max_pixels,
                classes=args.classes,
                csv=args.csv,
                own=args.out_problems,
                resizes=args.resize,
                unseen=args.unseen,
                split={
                    "method": args.method,
                    "test_share": args.test_share,
                    "seed": args.seed,
                },
                grouping=grouping if grouped else None,
                copies=copies,
                threads=args.threads,
                progress=progress,
            )
        write_csv(args.out_copies, copies.table)
        write_csv(args.out_problems, problems)
        write_csv(args.out_classes, classes)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
