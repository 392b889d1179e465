"""Divide a data set's images into train, validation and test."""

import argparse

from dmlstudy import console
from dmlstudy.dataset import make_split, read_manifest, write_csv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--method", choices=("stratified", "official"), default="stratified")
    parser.add_argument("--test-share", type=float, default=0.2)
    parser.add_argument("--validation-share", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        split = make_split(
            read_manifest(args.manifest),
            method=args.method,
            test_share=args.test_share,
            validation_share=args.validation_share,
            seed=args.seed,
        )
        write_csv(args.out, split)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
