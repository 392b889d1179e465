"""Letters that a terminal or a log cannot hold cost no result and no message."""

import os
import subprocess
import sys

import pytest

from dmlstudy.core.source_code import PROGRAMS

PROGRAM = r"""
import sys
from dmlstudy.core import console
from dmlstudy.core.files import StudyError

def work():
    print("enrolled as \u65e5\u672c, b\udcff")
    if len(sys.argv) > 2:
        raise StudyError("b\udcff \u65e5.jpg: broken")

console.run(work, sys.argv[1])
"""


def ran(folder, encoding, *more):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(PROGRAMS)}
    command = [sys.executable, "-c", PROGRAM, str(folder / "x.log"), *more]
    return subprocess.run(command, capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8:strict"])
def test_a_terminal_that_cannot_show_a_name(tmp_path, encoding):
    """Would catch an enrolment that is stored, and ends with a traceback because its name cannot be printed."""
    done = ran(tmp_path, encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"enrolled as ")
    assert b"b\\udcff" in done.stdout


def test_a_log_has_the_error_whatever_its_letters(tmp_path):
    """Would catch an empty log, of which the report says that the program never began."""
    done = ran(tmp_path, "utf-8", "fail")
    assert done.returncode == 1
    assert b"Logging error" not in done.stderr
    text = (tmp_path / "x.log").read_text(encoding="utf-8")
    assert text.endswith("error: b\\udcff \u65e5.jpg: broken\n")
