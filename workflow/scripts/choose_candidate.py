"""Choose the best candidate of a selection, and write the values that it adds to the recipe."""

import argparse
import json

from dmlstudy.core import console
from dmlstudy.core.files import read_json, write_json
from dmlstudy.evaluate.selection import choose


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="the experiment")
    parser.add_argument(
        "--choices",
        required=True,
        type=json.loads,
        help="JSON: a list of {candidate, values, recipe}; ties go to the first",
    )
    parser.add_argument(
        "--scores",
        required=True,
        nargs="+",
        help="a file of scores per candidate, in the same order",
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        choices = {choice["candidate"]: choice for choice in args.choices}
        files = zip(choices, args.scores, strict=True)
        scores = {candidate: read_json(path) for candidate, path in files}
        # The file has no scores. Trainings depend on it, and must not run again if only a score
        # changes.
        write_json(args.out, choices[choose(args.name, scores)])

    console.run(work, args.log)


if __name__ == "__main__":
    main()
