"""Write the complete recipe of an experiment as YAML."""

import argparse
import json

import yaml

from dmlstudy.core import console
from dmlstudy.core.files import read_json, write_text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--recipe", required=True, type=json.loads, help="JSON: the description of the experiment"
    )
    parser.add_argument("--chosen", help="chosen.json of a selection; its values are added")
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        if args.chosen:
            chosen = read_json(args.chosen)
            args.recipe["selected"] = chosen["values"]
            args.recipe["recipe"] = dict(sorted((args.recipe["recipe"] | chosen["recipe"]).items()))
        text = yaml.safe_dump(args.recipe, sort_keys=False, allow_unicode=True)
        write_text(args.out, text)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
