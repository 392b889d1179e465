"""Build an experiment's page from its tables and a few photographs."""

import argparse
import json
from pathlib import Path

import pandas as pd
import yaml

from dmlstudy.core import console
from dmlstudy.core.files import read_json, write_text
from dmlstudy.data.dataset import read_manifest
from dmlstudy.data.pack import Pack
from dmlstudy.explain.heatmap_files import load_heatmaps
from dmlstudy.pages.reports import Photographs, experiment_page

EVERY_RUN = ("curves", "metrics", "queries", "confusions", "classification_report")
LIMITED_RUNS = ("neighbours", "enrolment", "rejection", "rejection_curve")


def read_table(path):
    # A class may be called "NA" or "001", which pandas would read as a missing value or as 1.
    names = dict.fromkeys(("class_name", "nearest_class_name"), str)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=names)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full one first"
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--pack", required=True, help="folder of a pack of the data set")
    parser.add_argument("--thumbnails", required=True, help="picture of all its thumbnails")
    parser.add_argument("--note", default="", help="what every reader must know about the data")
    parser.add_argument(
        "--links",
        required=True,
        type=json.loads,
        help='JSON: {"index": [link from the folder, link inside a report of Snakemake]}',
    )
    parser.add_argument("--out", required=True)
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.experiment)

    def work():
        sets = pd.concat([pd.read_csv(path) for path in args.class_sets])
        names = list(sets["class_set"].unique())
        runs = []
        for seed in args.seeds:
            models = {}
            for class_set in names:
                run = folder / f"seed{seed}" / class_set
                tables = {name: read_table(run / f"{name}.csv") for name in EVERY_RUN}
                tables["summary"] = read_json(run / "summary.json")
                if class_set != names[0]:
                    tables |= {name: read_table(run / f"{name}.csv") for name in LIMITED_RUNS}
                    tables["scalars"] = read_json(run / "scalars.json")
                    tables["comparison"] = read_table(run / "comparison_all_classes.csv")
                if seed == args.seeds[0] and class_set in names[:2]:
                    tables["map"] = read_table(run / "map.csv")
                models[class_set] = tables
            runs.append({"seed": seed, "models": models})
        page = experiment_page(
            folder.name,
            yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
            pd.read_csv(folder / "summary.csv"),
            runs,
            sets,
            load_heatmaps(folder / f"seed{args.seeds[0]}" / "heatmaps"),
            Photographs(
                Pack(args.pack), read_manifest(args.manifest), Path(args.thumbnails).read_bytes()
            ),
            args.note,
            args.links,
        )
        write_text(args.out, page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
