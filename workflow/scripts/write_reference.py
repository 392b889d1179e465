"""Write the configuration's schema and its reference of keys from the typed configuration."""

import argparse
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import write_text
from dmlstudy.plan.reference import documents

PROJECT = Path(__file__).resolve().parents[2]


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()

    def work():
        for path, content in documents().items():
            write_text(PROJECT / path, content)
            print(path)

    console.run(work)


if __name__ == "__main__":
    main()
