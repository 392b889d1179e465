"""Evaluate the models of one experiment and seed from their stored embeddings."""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd

from dmlstudy import console
from dmlstudy.dataset import Dataset, write_csv
from dmlstudy.evaluation import (
    answer_queries,
    class_metrics,
    classification_report,
    compare_class_sets,
    summarise,
)
from dmlstudy.files import write_json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True, help="folder that holds a folder per class set")
    parser.add_argument("--all-classes", required=True, help="name of the full class set")
    parser.add_argument("--limited", nargs="*", default=[], help="names of the limited ones")
    parser.add_argument("--data", required=True, help="what the images are")
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--class-sets", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        metrics = {}
        for class_set in (args.all_classes, *args.limited):
            folder = Path(args.run) / class_set
            dataset = Dataset.read(args.manifest, args.split, args.class_sets, class_set)
            with np.load(folder / "embeddings.npz") as stored:
                embeddings = dict(stored)
            queries = answer_queries(embeddings, dataset.class_ids, args.threads)
            gallery = embeddings["gallery_image_ids"]
            names = dataset.class_names
            metrics[class_set] = class_metrics(queries, dataset.class_ids[gallery], names)
            curve = pd.read_csv(folder / "curves.csv")
            last = float(curve["test_accuracy"].iloc[-1])
            write_csv(folder / "queries.csv", queries)
            write_csv(folder / "metrics.csv", metrics[class_set])
            write_csv(folder / "classification_report.csv", classification_report(queries, names))
            summary = summarise(queries, len(gallery), dataset.seen, last)
            write_json(folder / "summary.json", {"data": args.data, **summary})
            if class_set != args.all_classes:
                tables, scalars = compare_class_sets(
                    metrics[args.all_classes], metrics[class_set], dataset.seen
                )
                for name, table in tables.items():
                    write_csv(folder / f"comparison_{name}_classes.csv", table)
                write_json(folder / "scalars.json", scalars)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
