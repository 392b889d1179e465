"""Build the page about features and ways of answering, from the tables of combinations."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import write_text
from dmlstudy.core.options import check_input
from dmlstudy.data.dataset import read_manifest
from dmlstudy.pages.quick.findings import Findings
from dmlstudy.pages.quick.page import answers_text, quick_page, training_file

TABLES = ("accuracy", "strangers", "costs")


def photographs(manifest, split, duplicates):
    """Numbers of photographs: see `Findings`."""
    parts = pd.read_csv(split)["part"]
    copies = pd.read_csv(duplicates, keep_default_na=False)
    both = copies[copies["problem"] == "in two parts"]
    return {
        "train": int((parts == "train").sum()),
        "test": int((parts == "test").sum()),
        "classes": read_manifest(manifest)["class_id"].nunique(),
        "copies": both["group"].nunique(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--combinations", required=True, help="folder of the tables")
    parser.add_argument(
        "--facts", required=True, type=json.loads, help="JSON: facts of the study, see plan.quick"
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--duplicates", required=True, help="table of files that are there twice")
    parser.add_argument("--note", default="", help="text about the data for the top of the page")
    parser.add_argument("--out", required=True, help="page to write")
    parser.add_argument("--out-answers", required=True, help="text of the answers to write")
    parser.add_argument("--out-training", required=True, help="configuration that trains, to write")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        folder = Path(args.combinations)
        for name in TABLES:
            check_input("--combinations", folder / f"{name}.csv")
        tables = {
            name: pd.read_csv(folder / f"{name}.csv", dtype={"images_per_class": str})
            for name in TABLES
        }
        found = photographs(args.manifest, args.split, args.duplicates)
        findings = Findings(**tables, facts=args.facts, photographs=found)
        write_text(args.out, quick_page(findings, args.note))
        write_text(args.out_answers, answers_text(findings, args.out))
        write_text(args.out_training, training_file(findings))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
