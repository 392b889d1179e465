"""Build the page of an experiment from its tables and some of its images."""

import argparse
import json
import math
from pathlib import Path

import pandas as pd
import yaml

from dmlstudy.core import console
from dmlstudy.core.files import read_json, write_text
from dmlstudy.data.dataset import read_manifest
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.comparison import differences_table, pairs
from dmlstudy.evaluate.stored_runs import StoredRuns
from dmlstudy.explain.heatmap_files import load_heatmaps
from dmlstudy.pages.experiment import Experiment
from dmlstudy.pages.images import PageImages
from dmlstudy.pages.reports import experiment_page
from dmlstudy.pages.results.facts import facts
from dmlstudy.pages.results.study import Study

EVERY_RUN = ("curves", "metrics", "queries", "confusions", "classification_report")
ANSWER_TABLES = ("answers", "answers_enrolment")
LIMITED_RUNS = ("neighbours", "enrolment", "rejection", "rejection_curve")


def read_table(path):
    """A table in which class names stay as they are."""
    # A class may be called "NA" or "001". pandas would read these as a missing value and as 1.
    names = dict.fromkeys(("class_name", "nearest_class_name"), str)
    return pd.read_csv(path, keep_default_na=False, na_values=[""], dtype=names)


def compared(args, folder):
    """The `Study` of the experiment and of those that its page compares it with.

    Differences are computed like those of the comparison's tables, so that the page need not wait for all
    experiments; without the p-values, whose adjustment counts all rows of the study.
    """
    descriptions = {row["experiment"]: row for row in args.rows}
    runs = StoredRuns.read(folder.parent, descriptions, args.seeds, args.class_sets)
    metrics = {name: runs.metrics(name) for name in descriptions}
    softmax = [name for name in descriptions if "softmax_accuracy" in metrics[name].index]
    wanted = [
        pair
        for pair in pairs(descriptions, args.baseline, softmax[0] if softmax else None)
        if pair[0] == folder.name
    ]
    differences = differences_table(
        {name: runs.answers(name) for name in {folder.name, *(other for _, other, _ in wanted)}},
        wanted,
        draws=args.bootstrap_draws,
        seed=args.bootstrap_seed,
    )
    own = StoredRuns(folder.parent, [folder.name], args.seeds, runs.class_sets)
    numbers = {**own.facts(), "unseen_draws": len(runs.limited)}
    recipes = {
        name: yaml.safe_load((folder.parent / name / "config.yaml").read_text(encoding="utf-8"))
        for name in descriptions
    }
    about = facts(read_json(args.study), numbers, recipes, seeds=args.seeds, baseline=args.baseline)
    tables = {
        "experiments": pd.DataFrame({"experiment": list(descriptions)}),
        "metrics": pd.concat(
            [metrics[name].reset_index().assign(experiment=name) for name in descriptions]
        ),
        # Unknown here, so that no sentence speaks of them.
        "differences": differences.assign(p_holm=math.nan),
        "enrolment": own.gathered("enrolment.csv", runs.limited),
        "rejection": own.gathered("rejection.csv", runs.limited),
        "costs": runs.gathered("cost.json", list(runs.class_sets)),
    }
    return Study(about, tables, speaks_of=folder.name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full one first"
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--pack", required=True, help="folder of a pack of the data set")
    parser.add_argument("--thumbnails", required=True, help="the sprite of its thumbnails")
    parser.add_argument(
        "--near",
        type=int,
        help="bits of perceptual hashes by which copies of a photograph may differ",
    )
    parser.add_argument("--note", default="", help="text about the data for the top of the page")
    parser.add_argument(
        "--links",
        required=True,
        type=json.loads,
        help='JSON: {"index": [link from the folder, link inside a Snakemake report]}',
    )
    parser.add_argument("--study", required=True, help="study.json of the results folder")
    parser.add_argument(
        "--rows",
        required=True,
        type=json.loads,
        help="JSON: rows of the study's table of the experiment and of those that it is compared with",
    )
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--out", required=True)
    parser.add_argument(
        "--out-beside", help="script with its heat maps and maps for the page of all experiments"
    )
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
        experiment = Experiment(
            name=folder.name,
            description=yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")),
            metrics=pd.read_csv(folder / "summary.csv"),
            health=read_table(folder / "health.csv"),
            answers={name: pd.read_csv(folder / f"{name}.csv") for name in ANSWER_TABLES},
            rejection_scores=pd.read_csv(folder / "rejection_scores.csv"),
            rejection_thresholds=pd.read_csv(folder / "rejection_thresholds.csv"),
            runs=runs,
            class_sets=sets,
            heatmaps=load_heatmaps(folder / f"seed{args.seeds[0]}" / "heatmaps"),
            images=PageImages(
                Pack(args.pack),
                read_manifest(args.manifest),
                pd.read_csv(args.split),
                Path(args.thumbnails).read_bytes(),
                near=args.near,
            ),
        )
        page, beside = experiment_page(experiment, compared(args, folder), args.note, args.links)
        write_text(args.out, page)
        if args.out_beside:
            write_text(args.out_beside, beside)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
