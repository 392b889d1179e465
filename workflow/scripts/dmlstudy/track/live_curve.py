"""Send the curve of a training to Weights & Biases while it trains, from a separate program.

The tracker is not imported here. Nothing here can change a number, so an edit does not retrain anything
(see `source_code.NOT_FOLLOWED`).
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

from dmlstudy.track.temporary import sweep

SETTINGS = "DML_TRACKING"
# Seconds that a finished training waits for its last points to be sent.
TIMEOUT = 60


def modified(path):
    """Modification time of a file in nanoseconds, or None if there is no file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def curves_of(folder):
    """The files with the curve of the run in ``folder``: during the training, and after it."""
    return [Path(folder) / "state" / "curves.csv", Path(folder) / "curves.csv"]


@contextlib.contextmanager
def live_curve(folder, name, class_set, spec):
    """While inside, another process sends new rows of ``folder``/state/curves.csv.

    This happens only if the environment variable DML_TRACKING is set: a JSON object with ``mode``,
    ``project``, ``entity``, ``root`` (folder for W&B's files) and ``results`` (identity of the results
    folder). An error there costs one warning, and at most TIMEOUT seconds.
    """
    settings = os.environ.get(SETTINGS)
    if not settings:
        yield
        return
    with tempfile.TemporaryFile() as words:
        try:
            root = json.loads(settings)["root"]
            program = Path(__file__).parents[2] / "track_training.py"
            before = [modified(path) for path in curves_of(folder)]
            what = {"experiment": name, "class_set": class_set, "spec": spec, "before": before}
            child = subprocess.Popen(
                [sys.executable, program, "--folder", folder, "--training", json.dumps(what)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=words,
                # No access to the terminal, and not ended by Ctrl-C there.
                start_new_session=True,
            )
        except (OSError, ValueError, KeyError) as error:
            logging.warning("Weights & Biases: no live curve: %s", error)
            yield
            return
        try:
            yield
        finally:
            problem = _end(child, words)
            # The process may have been killed before it removed its temporary files.
            sweep(root)
            if problem:
                logging.warning("Weights & Biases: no live curve: %s", problem)


def _end(child, words):
    """Wait until the process has sent the rest. Returns what went wrong, or an empty text."""
    # The end of its input tells the process that the training is over, even if we are killed.
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
