"""Make heat maps of one experiment and seed, and score them against bounding boxes."""

import argparse
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# torch is imported before the threads of pandas and scikit-learn, as in all programs.
from dmlstudy.explain.explanation import Run, explain  # isort: skip

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import Dataset, read_manifest
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.explain.heatmap_files import Heatmaps, save_heatmaps
from dmlstudy.explain.localisation import boxes_without_score
from dmlstudy.plan.recipe import Recipe
from dmlstudy.use.trained_model import load_model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", required=True, help="folder of the experiment's seed")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full set first"
    )
    parser.add_argument("--test-pack", required=True)
    parser.add_argument("--queries", type=int, default=24, help="number of queries to show")
    parser.add_argument(
        "--evaluated-queries", type=int, default=200, help="number of queries to score"
    )
    parser.add_argument("--seed", type=int, default=42, help="seed for the choice of queries")
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--out", required=True, help="folder for the maps")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        resize = Path(args.test_pack).name.removeprefix("pack_")
        runs = []
        for path in args.class_sets:
            dataset = Dataset.read(args.manifest, args.split, path)
            folder = Path(args.runs) / dataset.class_set
            model, stored = load_model(folder / "model.pt")
            if stored["test_resize"] != resize:
                raise StudyError(
                    f"{folder / 'model.pt'}: the model needs the test pack {stored['test_resize']}, "
                    f"but --test-pack is {resize}"
                )
            embeddings = read_embeddings(folder / "embeddings.npz")
            answers = pd.read_csv(folder / "queries.csv")
            runs.append(
                Run(
                    dataset.class_set,
                    model,
                    Recipe.from_dict(stored["recipe"]),
                    embeddings,
                    answers,
                    dataset,
                )
            )
        manifest = read_manifest(args.manifest)
        size = runs[0].recipe.image_size
        boxes, outside = boxes_without_score(manifest, dataset.images("test"), resize, size)
        if outside:
            logging.warning(
                "%d of %d bounding boxes of test images lie outside the crop that the models get; these "
                "images are not scored",
                outside,
                boxes,
            )
        with console.Progress(len(runs) + 1, "heat maps", "models") as progress:
            table, maps, layer, localisation = explain(
                runs,
                dataset,
                manifest,
                Pack(args.test_pack),
                resize,
                queries=args.queries,
                evaluated=args.evaluated_queries,
                seed=args.seed,
                draws=args.bootstrap_draws,
                progress=progress,
            )
        save_heatmaps(args.out, Heatmaps(table, maps, localisation, layer, size, resize))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
