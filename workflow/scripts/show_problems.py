"""Print what check-ups of data sets found; ends with 1 if something must be mended."""

import argparse
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", nargs="+", required=True, help="folders of check-ups")
    parser.add_argument("--log")
    args = parser.parse_args()

    def work():
        wrong = []
        for folder in map(Path, args.folders):
            problems = pd.read_csv(folder / "problems.csv", keep_default_na=False, dtype=str)
            classes = pd.read_csv(
                folder / "classes.csv", keep_default_na=False, dtype={"class_name": str}
            )
            print(
                f"\n{folder.parent.name}: {len(classes)} classes, {classes['images'].sum()} images\n"
            )
            if len(classes):
                print(classes.to_string(index=False))
            mend = problems["must_be_mended"] == "yes"
            for title, part in (("to mend", problems[mend]), ("worth knowing", problems[~mend])):
                if len(part):
                    print(f"\n{title}: {len(part)}")
                    print(
                        "\n".join(
                            f"  {kind}: {text}"
                            for kind, text in zip(part["kind"], part["problem"], strict=True)
                        )
                    )
            if mend.any():
                wrong.append(f"{mend.sum()} to mend, listed in {folder / 'problems.csv'}")
            else:
                print("\nnothing to mend")
        print(flush=True)
        if wrong:
            raise StudyError("; ".join(wrong))

    console.run(work, args.log)


if __name__ == "__main__":
    main()
