"""Compute the features of all images of a data set once, so that heads can train on them."""

import argparse
import os

# On a shared machine, waiting threads that spin slow everything down.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.compute import gpu_slots
from dmlstudy.compute.feature_files import write_features
from dmlstudy.core import console
from dmlstudy.core.files import write_digest, write_json
from dmlstudy.core.interruptions import end_at_signals
from dmlstudy.data.pack import Pack
from dmlstudy.plan.recipe import FeatureRecipe, recipe_option


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True, type=recipe_option, help="recipe as JSON")
    parser.add_argument("--name", default="features", help="what progress and messages call it")
    parser.add_argument("--test-pack", required=True, help="folder of the test pack")
    parser.add_argument("--weights", required=True, help="weights of the backbone")
    parser.add_argument("--out", required=True, help="file of features to write")
    parser.add_argument("--out-cost", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        end_at_signals()
        recipe, pack = FeatureRecipe(**args.recipe), Pack(args.test_pack)
        gpu_slots.take_to_embed(recipe, pack.pixels.nbytes)
        with console.Progress(len(pack), args.name, "images") as progress:
            cost = write_features(args.out, recipe, pack, args.weights, progress)
        write_digest(args.out)
        write_json(args.out_cost, cost)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
