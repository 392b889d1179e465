"""Build an experiment's page from its tables."""

import argparse
from pathlib import Path

import pandas as pd
import yaml

from dmlstudy import console
from dmlstudy.files import read_json, write_text
from dmlstudy.reports import experiment_page


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", required=True, help="folder of the experiment")
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument(
        "--class-sets", required=True, nargs="+", help="tables of class sets, the full one first"
    )
    parser.add_argument("--note", default="", help="what every reader must know about the data")
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
                models[class_set] = {
                    "summary": read_json(run / "summary.json"),
                    "curve": pd.read_csv(run / "curves.csv"),
                    "metrics": pd.read_csv(
                        run / "metrics.csv", keep_default_na=False, na_values=[""]
                    ),
                    "report": pd.read_csv(
                        run / "classification_report.csv", keep_default_na=False, na_values=[""]
                    ),
                }
                if class_set != names[0]:
                    models[class_set]["scalars"] = read_json(run / "scalars.json")
                    models[class_set]["comparison"] = pd.read_csv(
                        run / "comparison_all_classes.csv", keep_default_na=False, na_values=[""]
                    )
            runs.append({"seed": seed, "models": models})
        recipe = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        figures = pd.read_csv(folder / "figures.csv")
        page = experiment_page(folder.name, recipe, figures, runs, sets, args.note)
        write_text(args.out, page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
