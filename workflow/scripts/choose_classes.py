"""Write the class sets: which classes each set's models see, and their labels."""

import argparse
import json

from dmlstudy import console
from dmlstudy.dataset import make_class_sets, read_manifest, write_csv


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True)
    parser.add_argument(
        "--class-sets", required=True, type=json.loads, help="JSON: name → last classes left out"
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        count = read_manifest(args.manifest)["class_id"].nunique()
        write_csv(args.out, make_class_sets(count, args.class_sets))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
