"""Write a class set: which classes its models are trained on, and their labels."""

import argparse
import json

import pandas as pd

from dmlstudy.core import console
from dmlstudy.data.dataset import make_class_set, read_manifest, write_csv
from dmlstudy.data.needs import refuse_unmet


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
    parser.add_argument("--split", help="table of the split, to check --needs")
    parser.add_argument(
        "--needs",
        type=json.loads,
        help="JSON: what trainings need of any class set; a list of those of data.needs.refuse_unmet "
        "and {class set: {unseen, seed}} of all class sets",
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        manifest = read_manifest(args.manifest)
        count = manifest["class_id"].nunique()
        table = make_class_set(
            count, args.class_set, unseen=args.unseen, seed=args.seed if args.seed else None
        )
        if args.needs and args.split:
            needs, class_sets = args.needs
            parts = manifest.merge(pd.read_csv(args.split), on="image_id")
            images = parts[parts["part"] == "train"]["class_id"].value_counts()
            # Those of all class sets: trainings of one do not wait for the others.
            in_every_set = set(range(count))
            for name, one in class_sets.items():
                chosen = make_class_set(count, name, unseen=one["unseen"], seed=one.get("seed"))
                seen = chosen.loc[chosen["seen"] == 1, "class_id"].tolist()
                in_every_set &= set(seen)
                runs = [need for need in needs if need["held_out_share"] is None]
                refuse_unmet([int(images.get(each, 0)) for each in seen], name, runs)
            candidates = [need for need in needs if need["held_out_share"] is not None]
            common = [int(images.get(each, 0)) for each in sorted(in_every_set)]
            refuse_unmet(common, "seen in every class set", candidates)
        write_csv(args.out, table)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
