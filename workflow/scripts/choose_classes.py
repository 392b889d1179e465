"""Write a class set: which classes its models are trained on, and their labels."""

import argparse

from dmlstudy.core import console
from dmlstudy.data.dataset import make_class_set, read_manifest, write_csv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--class-set", required=True, help="name of the class set")
    parser.add_argument("--unseen", required=True, type=int, help="number of classes to leave out")
    parser.add_argument(
        "--seed",
        type=int,
        nargs="*",
        help="draw the unseen classes with this seed; without a seed they are the last classes",
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        count = read_manifest(args.manifest)["class_id"].nunique()
        table = make_class_set(
            count, args.class_set, unseen=args.unseen, seed=args.seed if args.seed else None
        )
        write_csv(args.out, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
