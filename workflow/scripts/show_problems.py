"""Print the problems that were found in data sets. Ends with exit code 1 if something must be fixed."""

import argparse
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_input

# A photo server can leave a folder of its own beside every image.
LEFT_OUT_SHOWN = 50


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
                    many = rows["kind"].eq("left out")
                    shown = pd.concat([rows[~many], rows[many].head(LEFT_OUT_SHOWN)])
                    print(
                        "\n".join(
                            f"  {kind}: {text}"
                            for kind, text in zip(shown["kind"], shown["problem"], strict=True)
                        )
                    )
                    if many.any():
                        print(f"  {many.sum()} left out, all listed in {folder / 'problems.csv'}")
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
