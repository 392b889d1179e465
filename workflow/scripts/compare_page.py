"""Build the page that compares all experiments, and its plots, from the study's tables."""

import argparse
import json
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.core.options import check_input, check_output
from dmlstudy.data.dataset import read_manifest
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.side_by_side import pair_differences
from dmlstudy.evaluate.stored_runs import StoredRuns
from dmlstudy.pages.comparison_page import TABLES, comparison_pages
from dmlstudy.pages.images import PageImages
from dmlstudy.pages.results.facts import facts_of_results
from dmlstudy.pages.results.study import Study
from dmlstudy.pages.side_by_side import relative_link, side_by_side
from dmlstudy.pages.strip import strip


def read_table(path):
    """A table of the comparison; StudyError if it is missing or no table."""
    try:
        return pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise StudyError(
            f"{path}: no such file; --comparison is the folder of all tables"
        ) from None
    except ValueError as error:
        raise StudyError(f"{path}: cannot be read as a table: {error}") from None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparison", required=True, help="folder of the study's tables")
    parser.add_argument(
        "--results",
        required=True,
        help="folder of all results, for study.json and the recipes of the experiments",
    )
    parser.add_argument("--manifest", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument(
        "--class-sets",
        required=True,
        nargs="+",
        help="tables of class sets, the full one first; the unseen classes of the second are shown",
    )
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--pack", required=True, help="folder of a pack of the data set")
    parser.add_argument(
        "--thumbnails",
        required=True,
        help="sprite of all thumbnails; linked to, and need not exist",
    )
    parser.add_argument("--bootstrap-draws", type=int, default=10_000)
    parser.add_argument("--bootstrap-seed", type=int, default=42)
    parser.add_argument("--note", default="", help="text about the data for the top of the page")
    parser.add_argument(
        "--links",
        required=True,
        type=json.loads,
        help="JSON: {experiment: [link from the folder, link inside a Snakemake report]}",
    )
    parser.add_argument("--out", required=True, help="folder for index.html and plot_*.html")
    parser.add_argument("--log")
    args = parser.parse_args()
    folder = Path(args.comparison)

    def work():
        check_input("--comparison", folder, folder=True)
        check_input("--results", Path(args.results), folder=True)
        check_output("--out", args.out, folder=True)
        tables = {name: read_table(folder / f"{name}.csv") for name in TABLES}
        names = tables["experiments"]["experiment"].tolist() if isinstance(args.links, dict) else []
        missing = [name for name in names if name not in args.links]
        if missing or not names:
            raise StudyError(
                "--links: must be a JSON object with two links for each experiment"
                + (f"; {missing[0]} has none" if missing else "")
            )
        facts, _ = facts_of_results(args.results, tables)
        images = PageImages(Pack(args.pack), read_manifest(args.manifest), pd.read_csv(args.split))
        runs = StoredRuns.read(
            Path(args.results) / "experiments", names, args.seeds, args.class_sets
        )
        answers = {name: runs.answers(name) for name in names}
        pairs = pair_differences(
            answers, tables["differences"], draws=args.bootstrap_draws, seed=args.bootstrap_seed
        )
        link = relative_link(args.thumbnails, args.out)
        side = side_by_side(answers, runs.limited[0], pairs, images, link, args.links)
        photographs = strip(images, runs.class_sets[runs.limited[0]])
        pages = comparison_pages(Study(facts, tables), photographs, side, args.note, args.links)
        for name, page in pages.items():
            write_text(Path(args.out) / f"{name}.html", page)

    console.run(work, args.log)


if __name__ == "__main__":
    main()
