"""Choose the images for selections: training images of classes that every model has seen."""

import argparse

import pandas as pd

from dmlstudy.core import console
from dmlstudy.data.dataset import read_manifest, write_csv
from dmlstudy.evaluate.held_out import hold_out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-sets", required=True, nargs="+", help="tables of all class sets")
    parser.add_argument("--validation-share", required=True, type=float)
    parser.add_argument("--held-out-share", required=True, type=float)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        table = hold_out(
            read_manifest(args.manifest),
            pd.read_csv(args.split),
            pd.concat([pd.read_csv(path) for path in args.class_sets]),
            validation_share=args.validation_share,
            held_out_share=args.held_out_share,
            seed=args.seed,
        )
        write_csv(args.out, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
