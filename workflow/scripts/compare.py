"""Build the study's tables from every experiment's evaluation."""

import argparse
import csv
import json
from pathlib import Path

import pandas as pd

from dmlstudy import console, published
from dmlstudy.comparison import CLASSIFIER, differences_table, experiments_table, pairs
from dmlstudy.dataset import write_csv
from dmlstudy.figures import Answers
from dmlstudy.files import read_json


def read_rows(path):
    """A small table typed by people, as dictionaries of texts."""
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", required=True, help="folder of all experiments")
    parser.add_argument("--rows", required=True, type=json.loads, help="JSON: names and details")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full one first"
    )
    parser.add_argument("--baseline", required=True)
    parser.add_argument("--data", required=True, help="what the images are, for every row")
    parser.add_argument("--published", required=True, help="published figures")
    parser.add_argument("--published-deductions", required=True)
    parser.add_argument(
        "--reproduction",
        required=True,
        type=json.loads,
        help="JSON: what can be compared with them",
    )
    parser.add_argument("--published-size", required=True, type=int, nargs=2, metavar="N",
                        help="gallery and queries of the published study")  # fmt: skip
    parser.add_argument("--equivalence-margin", type=float, default=0.02)
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--out", required=True, help="folder for the tables")
    parser.add_argument("--log")
    args = parser.parse_args()
    root, out = Path(args.experiments), Path(args.out)
    descriptions = {row["experiment"]: row for row in args.rows}

    def work():
        sets = {}
        for path in args.class_sets:
            table = pd.read_csv(path)
            sets[table["class_set"].iat[0]] = table["seen"].to_numpy(dtype=bool)
        full, *limited = sets

        def every_run(class_sets):
            for name in descriptions:
                for seed in args.seeds:
                    for class_set in class_sets:
                        yield name, seed, class_set, root / name / f"seed{seed}" / class_set

        def gathered(file, class_sets):
            """One kind of table of all runs, with what each row is about."""
            parts = []
            for name, seed, class_set, folder in every_run(class_sets):
                keys = {"experiment": name, "data": args.data, "seed": seed, "class_set": class_set}
                if file.endswith(".json"):
                    part = pd.DataFrame([read_json(folder / file)])
                else:
                    part = pd.read_csv(folder / file)
                for position, (key, value) in enumerate(keys.items()):
                    part.insert(position, key, value)
                parts.append(part)
            return pd.concat(parts, ignore_index=True)

        answers, figures = {}, {}
        for name in descriptions:
            answers[name] = Answers([], {one: [] for one in limited}, {c: sets[c] for c in limited})
            figures[name] = pd.read_csv(root / name / "figures.csv").set_index("figure")
        for name, _, class_set, folder in every_run(sets):
            queries = pd.read_csv(folder / "queries.csv")
            mine = answers[name]
            (mine.all if class_set == full else mine.limited[class_set]).append(queries)

        # The classical classifier, if it is there: the one whose softmax answers.
        classifier = next(
            (name for name in descriptions if "softmax_accuracy" in figures[name].index), None
        )
        first = read_json(
            root / next(iter(descriptions)) / f"seed{args.seeds[0]}" / full / "summary.json"
        )
        published_rows = read_rows(args.published)
        deductions = read_rows(args.published_deductions)
        matches = args.reproduction["matches"]

        def ours(name):
            return matches.get(name, {}).get("experiment")

        spoken_of = [
            (ours(row["experiment"]), ours(row["compared_with"]))
            for row in deductions
            if ours(row["experiment"]) and ours(row["compared_with"])
        ]
        compared = pairs(descriptions, args.baseline, classifier, spoken_of)
        bootstrap = {"draws": args.bootstrap_draws, "seed": args.bootstrap_seed}
        differences = differences_table(answers, compared, **bootstrap)

        obstacle = args.reproduction["obstacle"]
        size = [first["gallery"], first["queries"]]
        if not obstacle and size != args.published_size:
            obstacle = (
                f"{size[0]} gallery images and {size[1]} queries, "
                f"published were {args.published_size[0]} and {args.published_size[1]}"
            )
        reproduction = published.Reproduction(
            matches,
            {
                (name, figure): {**row, **wider(row)}
                for name, table in figures.items()
                for figure, row in table.to_dict("index").items()
            },
            {
                (row["experiment"], row["compared_with"], row["figure"]): {**row, **wider(row)}
                for row in differences.to_dict("records")
                if row["role"] != CLASSIFIER
            },
            {name: mean_curve(root / name, args.seeds, full) for name in descriptions},
            obstacle,
        )
        verdicts = published.judge_figures(published_rows, reproduction)
        on_accuracy = verdicts[verdicts["figure"] == "test_accuracy_all_classes"]
        facts = {"data": args.data}
        facts |= {key: first[key] for key in ("classes", "queries", "gallery")}
        facts["unseen_classes"] = int((~sets[limited[0]]).sum())
        write_csv(
            out / "experiments.csv",
            experiments_table(
                figures,
                differences,
                descriptions,
                args.seeds,
                args.baseline,
                facts,
                {row["experiment"]: row for row in on_accuracy.to_dict("records")},
            ),
        )
        write_csv(out / "differences.csv", differences.assign(data=args.data))
        every = [table.reset_index().assign(experiment=name) for name, table in figures.items()]
        every = pd.concat(every, ignore_index=True).assign(data=args.data)
        write_csv(out / "figures.csv", every[["experiment", *every.columns.drop("experiment")]])
        write_csv(out / "enrolment.csv", gathered("enrolment.csv", limited))
        write_csv(out / "rejection.csv", gathered("rejection.csv", limited))
        # Without times, so that it repeats.
        curves = gathered("curves.csv", sets)
        write_csv(out / "curves.csv", curves.drop(columns="seconds"))
        write_csv(out / "costs.csv", gathered("cost.json", sets))
        write_csv(out / "published.csv", verdicts.assign(data=args.data))
        judged = published.judge_deductions(deductions, reproduction, args.equivalence_margin)
        write_csv(out / "published_deductions.csv", judged.assign(data=args.data))

    console.run(work, args.log)


def wider(row):
    """{"low", "high"}: with several seeds the wider of both intervals counts."""
    ends = [(row["low"], row["high"]), (row["seeds_low"], row["seeds_high"])]
    ends = [(low, high) for low, high in ends if low == low]
    return {
        "low": min((low for low, _ in ends), default=float("nan")),
        "high": max((high for _, high in ends), default=float("nan")),
    }


def mean_curve(folder, seeds, class_set):
    """{epoch: test accuracy, mean over seeds} where the curve has points."""
    curves = [pd.read_csv(folder / f"seed{seed}" / class_set / "curves.csv") for seed in seeds]
    curve = pd.concat(curves).groupby("epoch")["test_accuracy"].mean().dropna()
    return {int(epoch): float(value) for epoch, value in curve.items()}


if __name__ == "__main__":
    main()
