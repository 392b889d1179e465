"""Check the version of Python. Runs on any Python 3."""

import sys


def check():
    """End with a sentence if this Python cannot run the project."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        sys.exit(
            "This project needs Python 3.11, 3.12 or 3.13; %s is %d.%d. "
            "Install one of them and run, for example: make PYTHON=python3.12 demo"
            % (sys.executable, sys.version_info[0], sys.version_info[1])
        )


if __name__ == "__main__":
    check()
