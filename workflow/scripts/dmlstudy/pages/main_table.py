"""The main table of the comparison: a row per experiment, columns in groups that fold."""

from dataclasses import dataclass, replace

from dmlstudy.evaluate.deductions import hundredths, shown
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED

# How a column's numbers are written and drawn.
SHARE, DROP, DIFFERENCE, RATIO, NUMBER = "share", "drop", "difference", "ratio", "number"
TRAINING = "train_time"
# If no training of the study takes longer, times are in seconds.
MOST_SECONDS = 600


@dataclass(frozen=True)
class Column:
    """``key``: of the metric; of a difference any name.

    ``label``, ``unit``: of its head; ``kind``: see above. ``main``: shown while its group is folded;
    ``phone``: one of the figures of a card on a phone; ``digits``: of a `NUMBER`; ``of``: (role, metric)
    of a `DIFFERENCE` in differences.csv.
    """

    key: str
    label: str
    unit: str = "%"
    kind: str = SHARE
    main: bool = False
    phone: bool = False
    digits: int = 1
    of: tuple = ()


@dataclass(frozen=True)
class Group:
    """Columns that fold together. ``key`` names the group in links."""

    key: str
    label: str
    columns: tuple


def difference(role, label, metric, *, main=False):
    """A column of differences; ``role``, ``metric``: in differences.csv."""
    key = f"{role}_{metric}"
    return Column(key, label, "points", DIFFERENCE, main=main, of=(role, metric))


GROUPS = (
    Group(
        "all",
        "All classes",
        (
            Column("precision_at_1", "precision@1", main=True, phone=True),
            difference("baseline", "minus baseline", "precision_at_1", main=True),
            difference("classifier", "minus softmax", "precision_at_1"),
            difference(UNTRAINED, "minus untrained", "precision_at_1"),
            Column("softmax_accuracy", "own softmax"),
            Column("macro_precision_at_1", "mean over classes"),
        ),
    ),
    Group(
        "limited",
        "Limited model",
        (
            Column("limited_precision_at_1", "all classes", main=True),
            Column("limited_precision_at_1_seen_classes", "seen classes"),
            Column("limited_harmonic_mean", "harmonic mean"),
        ),
    ),
    Group(
        "unseen",
        "Unseen classes",
        (
            Column(UNSEEN, "limited model", main=True, phone=True),
            difference("baseline", "minus baseline", UNSEEN, main=True),
            difference(UNTRAINED, "minus untrained", UNSEEN),
            Column("precision_drop_unseen_classes", "drop", "points", DROP, main=True, phone=True),
            Column("precision_drop_seen_classes", "drop, seen", "points", DROP),
            Column("all_classes_precision_at_1_unseen_classes", "trained on them"),
        ),
    ),
    Group(
        "rejection",
        "Rejection",
        (
            Column("auroc", "AUROC", "", RATIO, main=True),
            Column("false_positives", "unknown accepted at 95 %"),
        ),
    ),
    Group(
        "cost",
        "Cost",
        (
            Column(TRAINING, "training", "min", NUMBER, main=True),
            Column("images_per_second", "speed", "images/s", NUMBER, digits=0),
            Column("peak_host_memory_mb", "host memory", "MB", NUMBER, digits=0),
            Column("peak_device_memory_mb", "device memory", "MB", NUMBER, digits=0),
        ),
    ),
    Group(
        "published",
        "Published",
        (Column("published_test_accuracy", "published", main=True),),
    ),
)


def main_table(study, counts):
    """The table for its template.

    ``study``: a `study.Study`; ``counts``: {experiment: its health in words}. Returns {"groups",
    "rows"}; a row is {"experiment", "kind", "details", "deduction", "health", "published", "cells"},
    and "cells" has an entry for each column: {"value", "low", "high", "text", "interval", "real",
    "bar"}, ``real`` being "better" or "worse" for a difference that is shown.
    """
    unit, size = _unit(study)
    found = {name: _figures(study, name, size) for name in study.rows}
    groups = [
        replace(
            group,
            columns=tuple(
                replace(one, unit=unit) if one.key == TRAINING else one for one in group.columns
            ),
        )
        for group in GROUPS
    ]
    columns = [(group, column) for group in groups for column in group.columns]
    scales = _scales(found, [column for _, column in columns])
    rows = []
    for name, row in study.rows.items():
        rows.append(
            {
                "experiment": name,
                "block": row.get("block", ""),
                "kind": _kind(study, name),
                "leading": name == study.leading,
                "details": row["details"],
                "deduction": row["deduction"],
                "health": counts.get(name, ""),
                "published": row,
                "cells": [
                    {
                        "column": column,
                        "group": group.key,
                        **_cell(found[name].get(column.key), column, scales),
                    }
                    for group, column in columns
                ],
            }
        )
    return {"groups": groups, "rows": rows, "columns": len(columns)}


def _unit(study):
    """(unit, its seconds) of the times of trainings."""
    longest = max((study.train_seconds(name) for name in study.trained), default=0)
    return ("s", 1) if longest <= MOST_SECONDS else ("min", 60)


def _kind(study, name):
    if name in study.untrained:
        return "untrained"
    return "classifier" if name == study.classifier else "metric loss"


def _figures(study, name, size):
    """{key of a column: {"value", "low", "high"}} of an experiment, as far as the tables have them.

    ``size``: seconds of the unit of time.
    """
    figures = {}
    for group in GROUPS:
        for column in group.columns:
            if column.kind in (SHARE, DROP):
                figures[column.key] = study.metric(name, column.key)
            elif column.kind == DIFFERENCE:
                row = study.difference(name, *column.of)
                figures[column.key] = row and {**row, "value": row["difference"]}
    rejection = study.rejection(name)
    if rejection:
        figures["auroc"] = rejection
        figures["false_positives"] = {"value": rejection["false_positives"]}
    costs = study.tables["costs"]
    own = costs[(costs["experiment"] == name) & (costs["class_set"] == "all_classes")]
    if name in study.trained:
        figures[TRAINING] = {"value": study.train_seconds(name) / size}
    for key in ("images_per_second", "peak_host_memory_mb", "peak_device_memory_mb"):
        figures[key] = {"value": own[key].astype(float).mean()}
    figures["published_test_accuracy"] = {"value": study.rows[name]["published_test_accuracy"]}
    return figures


def _scales(found, columns):
    """(least, most) of the bars by kind: shares share one axis, which begins at 0; drops and differences too."""
    scales = {SHARE: (0.0, 1.0), RATIO: (0.0, 1.0)}
    for kind in (DROP, DIFFERENCE):
        ends = [0.0, 0.01]
        for figures in found.values():
            for column in columns:
                one = figures.get(column.key)
                # A seen class drops little: its column has no bars of its own scale.
                if one and column.kind == kind and column.main:
                    ends += [one[key] for key in ("value", "low", "high") if _given(one, key)]
        scales[kind] = (min(ends), max(ends))
    return scales


def _given(one, key):
    value = one.get(key)
    return value is not None and value == value


def _thousandths(value):
    return f"{value:.3f}"


def _cell(one, column, scales):
    if not one or not _given(one, "value"):
        return {"value": None, "text": "–"}
    value = float(one["value"])
    if column.kind == NUMBER:
        return {"value": value, "text": f"{value:,.{column.digits}f}"}
    written = _thousandths if column.kind == RATIO else hundredths
    cell = {"value": value, "text": written(value)}
    if column.kind == DIFFERENCE and value > 0:
        cell["text"] = f"+{cell['text']}"
    if _given(one, "low"):
        low, high = float(one["low"]), float(one["high"])
        cell |= {"low": low, "high": high, "interval": f"[{written(low)}, {written(high)}]"}
        if column.kind == DIFFERENCE and shown(one):
            cell["real"] = "better" if value > 0 else "worse"
    if column.main and column.key != "published_test_accuracy":
        cell["bar"] = scales[column.kind]
    return cell
