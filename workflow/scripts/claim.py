"""Record which data set and split a results folder belongs to."""

import argparse
import json

from dmlstudy.core import console
from dmlstudy.core.files import write_json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identity", required=True, type=json.loads, help="JSON")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()
    console.run(lambda: write_json(args.out, args.identity), args.log)


if __name__ == "__main__":
    main()
