"""Show several finished studies side by side, and each conclusion over all of them.

A study is a results folder, or a folder of docs/results/ that holds its small tables.
"""

import argparse
import tempfile
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.data.dataset import write_csv
from dmlstudy.pages.results.kept import ABOUT, KeptStudy
from dmlstudy.pages.results.protocol import Published
from dmlstudy.pages.studies.conclusions import compared
from dmlstudy.pages.studies.page import page, sentence

PROJECT = Path(__file__).resolve().parents[2]


def study_of(folder, temporary):
    """The `KeptStudy` of a results folder, or of a folder of kept tables.

    ``temporary``: folder for the small tables of a results folder.
    """
    folder = Path(folder)
    if (folder / "differences.csv").is_file():
        return KeptStudy.read(folder)
    if not (folder / ABOUT).is_file():
        raise StudyError(f"{folder}: no finished study; it has no {ABOUT}")
    # Only here, because it takes a second to import.
    from dmlstudy.pages.results.keeping import keep

    # Two studies may have the same name; the user is told later.
    small = Path(tempfile.mkdtemp(dir=temporary)) / folder.resolve().name
    keep(folder, small, Published.read(PROJECT / "config"))
    return KeptStudy.read(small)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "studies", nargs="+", help="results folders, or folders of docs/results/, one per data set"
    )
    parser.add_argument("--out", default="results/compared", help="folder for tables and page")
    args = parser.parse_args()

    def work():
        with tempfile.TemporaryDirectory() as temporary:
            studies = [study_of(folder, temporary) for folder in args.studies]
        rows, conclusions = compared(studies)
        out = Path(args.out)
        write_csv(out / "studies.csv", rows)
        write_csv(out / "conclusions.csv", conclusions)
        write_text(out / "index.html", page(studies, rows, conclusions))
        for row in conclusions.to_dict("records"):
            other = f" ({row['compared_with']})" if row["compared_with"] else ""
            print(f"{row['question']}, {row['experiment']}{other}: {sentence(row)}")
        left = int((~rows["counted"].astype(bool)).sum())
        if left:
            print(f"{left} rows are not counted; {out / 'studies.csv'} has the reasons")
        print(out / "index.html")

    console.run(work)


if __name__ == "__main__":
    main()
