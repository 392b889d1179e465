"""How far a training is, from the files that it writes while it runs. Unreadable files count as missing."""

import csv
import json
import math
import re
from pathlib import Path
from typing import NamedTuple

# A line of `console.Progress` in the log of a training: epochs that are done, and of how many.
EPOCHS = re.compile(r": (\d+) of (\d+) epochs", re.ASCII)
# Bytes of a log that are read, and lines of it that are shown.
TAIL = 20_000
LAST_LINES = 12


class Row(NamedTuple):
    """A row of ``curves.csv``. ``seconds``: of training; ``accuracy``: micro precision@1, None without a test."""

    epoch: int
    loss: float | None
    accuracy: float | None
    seconds: float


def _number(text):
    """A finite number, or None."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def read_curve(path):
    """(rows, time of the last change) of a curve; ([], None) without one. Damaged rows are left out."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            table = list(csv.DictReader(stream))
        changed = Path(path).stat().st_mtime
    except (OSError, csv.Error):
        return [], None
    rows = []
    for row in table:
        epoch, seconds = _number(row.get("epoch")), _number(row.get("seconds"))
        if epoch is None or seconds is None or seconds < 0 or epoch != int(epoch):
            continue
        loss, accuracy = _number(row.get("train_loss")), _number(row.get("test_accuracy"))
        rows.append(Row(int(epoch), loss, accuracy, seconds))
    return rows, changed


def tail(path):
    """The last `TAIL` bytes of a file as text, and when it was changed; ("", None) without it."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - TAIL))
            text = stream.read().decode("utf-8", "replace")
        return text, Path(path).stat().st_mtime
    except OSError:
        return "", None


def logged_epochs(log, since):
    """(epochs that are done, time of the log) from a training's log; (0, None) without a line.

    ``since``: older logs are of an earlier attempt.
    """
    text, changed = tail(log)
    if changed is None or changed < since:
        return 0, None
    found = EPOCHS.findall(text)
    return (int(found[-1][0]), changed) if found else (0, None)


def read_cost(path):
    """(seconds of training, seconds of evaluation) in a training's ``cost.json``, or None."""
    try:
        cost = json.loads(Path(path).read_text(encoding="utf-8"))
        trained = _number(cost.get("train_seconds"))
        evaluated = _number(cost.get("evaluation_seconds")) or 0.0
    except (OSError, ValueError, AttributeError):
        return None
    return None if trained is None else (trained, evaluated)


def last_lines(path, since=0.0):
    """The last `LAST_LINES` of a text file that are not empty; none if it cannot be read or is older."""
    text, changed = tail(path)
    if changed is None or changed < since:
        return []
    return [line for line in text.splitlines() if line.strip()][-LAST_LINES:]


def read_json(path):
    """The object in a JSON file, or None if it cannot be read."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
