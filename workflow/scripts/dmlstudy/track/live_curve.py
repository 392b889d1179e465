"""A training's curve in Weights & Biases while it trains; starts a program, and imports nothing.

Nothing here can change a number, so editing it trains nothing again (see `source_code.NOT_FOLLOWED`).
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

SETTINGS = "DML_TRACKING"
# Seconds that a finished training waits until its last points are sent.
TIMEOUT = 60


def modified(path):
    """When a file was written last, in nanoseconds; None if it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def curves_of(folder):
    """Files in which the curve of the run in ``folder`` stands: while it trains, and then."""
    return [Path(folder) / "state" / "curves.csv", Path(folder) / "curves.csv"]


@contextlib.contextmanager
def live_curve(folder, name, class_set, spec):
    """While inside, another process sends the rows of the curve in ``folder``/state/curves.csv.

    Only where the environment's DML_TRACKING asks for it: a JSON object with ``mode``,
    ``project``, ``entity``, ``root`` (folder for W&B's own) and ``results`` (what the results belong to).
    Whatever goes wrong there costs one warning, and TIMEOUT seconds at most.
    """
    settings = os.environ.get(SETTINGS)
    if not settings:
        yield
        return
    with tempfile.TemporaryFile() as words:
        try:
            program = Path(__file__).parents[2] / "track_training.py"
            before = [modified(path) for path in curves_of(folder)]
            what = {"experiment": name, "class_set": class_set, "spec": spec, "before": before}
            child = subprocess.Popen(
                [sys.executable, program, "--folder", folder, "--training", json.dumps(what)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                # Without this training's terminal, and not ended by a key that is pressed there.
                start_new_session=True,
            )
        except OSError as error:
            logging.warning("Weights & Biases: no live curve: %s", error)
            yield
            return
        try:
            yield
        finally:
            problem = _end(child, words)
            if problem:
                logging.warning("Weights & Biases: no live curve: %s", problem)


def _end(child, words):
    """Let the process send what is left; what went wrong, in words, or nothing."""
    # The end of its input tells it that the training is over, also if this process is killed.
    with contextlib.suppress(OSError):
        child.stdin.close()
    try:
        code = child.wait(TIMEOUT)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return f"not sent within {TIMEOUT} s"
    if code == 0:
        return ""
    words.seek(0)
    said = words.read().decode(errors="replace").strip().splitlines()
    return said[-1] if said else f"its process ended with exit code {code}"
