"""Print the problems that were found in data sets. Ends with exit code 1 if something must be fixed."""

import argparse
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_input

# A photo server can leave a folder of its own beside every image, and a film has near duplicates only.
SHOWN = 50
MANY = ("left out", "near duplicate")


def _name_copies(folder):
    """Say where sets of copies are shown, if there are any."""
    if (folder / "copies.csv").is_file():
        sets = pd.read_csv(folder / "copies.csv", keep_default_na=False, dtype=str)["set"].nunique()
        if sets:
            print(f"\n{sets} set(s) of copies, with their photographs: {folder / 'copies.html'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folders", nargs="+", required=True, help="folders with problems.csv and classes.csv"
    )
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        wrong = []
        for folder in map(Path, args.folders):
            for name in ("problems.csv", "classes.csv"):
                check_input("--folders", folder / name)
            problems = pd.read_csv(folder / "problems.csv", keep_default_na=False, dtype=str)
            classes = pd.read_csv(
                folder / "classes.csv", keep_default_na=False, dtype={"class_name": str}
            )
            print(
                f"\n{folder.parent.name}: {len(classes)} classes, {classes['images'].sum()} images\n"
            )
            if len(classes):
                print(classes.to_string(index=False))
            must_fix = problems["must_be_fixed"] == "yes"
            for title, rows in (
                ("to fix", problems[must_fix]),
                ("worth knowing", problems[~must_fix]),
            ):
                if len(rows):
                    print(f"\n{title}: {len(rows)}")
                    by_kind = {kind: rows[rows["kind"] == kind] for kind in MANY}
                    shown = pd.concat(
                        [
                            rows[~rows["kind"].isin(MANY)],
                            *(found.head(SHOWN) for found in by_kind.values()),
                        ]
                    )
                    print(
                        "\n".join(
                            f"  {kind}: {text}"
                            for kind, text in zip(shown["kind"], shown["problem"], strict=True)
                        )
                    )
                    for kind, found in by_kind.items():
                        if len(found):
                            print(f"  {len(found)} {kind}, all listed in {folder / 'problems.csv'}")
            _name_copies(folder)
            if must_fix.any():
                first = problems.loc[must_fix, "problem"].iloc[0]
                others = f" (and {must_fix.sum() - 1} more)" if must_fix.sum() > 1 else ""
                wrong.append(
                    f"{must_fix.sum()} to fix in {folder.parent.name}: {first}{others}; all are listed "
                    f"in {folder / 'problems.csv'}"
                )
            else:
                print("\nnothing to fix")
        print(flush=True)
        if wrong:
            raise StudyError("; ".join(wrong))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
