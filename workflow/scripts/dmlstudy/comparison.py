"""The study's table: a row per experiment, from the tables of the evaluation. Nothing is measured here."""

import numpy as np
import pandas as pd

from dmlstudy.metrics import paired_bootstrap

# Columns with a mean over seeds and, beside it, the standard deviation: name → (class set, key).
FIGURES = {
    "precision_at_1": ("all", "precision_at_1"),
    "macro_precision_at_1": ("all", "macro_precision_at_1"),
    "test_accuracy_all_classes": ("all", "test_accuracy_known_classes"),
    "softmax_accuracy": ("all", "softmax_accuracy_known_classes"),
    "test_accuracy_limited_classes": ("limited", "test_accuracy_known_classes"),
    "limited_precision_at_1": ("limited", "precision_at_1"),
    "limited_precision_at_1_seen_classes": ("limited", "precision_at_1_seen_classes"),
    "limited_precision_at_1_unseen_classes": ("limited", "precision_at_1_unseen_classes"),
    "precision_drop_unseen_classes": ("drop", "precision_drop_unseen_classes"),
    "precision_drop_seen_classes": ("drop", "precision_drop_seen_classes"),
    "precision_drop_all_classes": ("drop", "precision_drop_all_classes"),
}


def mean_and_spread(values):
    """Mean and standard deviation (n − 1; NaN for one value) of the values that are not None."""
    values = [value for value in values if value is not None]
    if not values:
        return float("nan"), float("nan")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def paired_difference(correct, other):
    """Mean difference of precision@1 and its 95 % interval, paired by query.

    ``correct``, ``other``: arrays (seeds, queries) of hits; each query's hits are averaged over
    seeds, then queries are resampled.
    """
    differences = correct.mean(axis=0) - other.mean(axis=0)
    return float(differences.mean()), *paired_bootstrap(differences)


def _points(value):
    return f"{100 * value:+.1f}".replace("-", "−")


def deduction(row, reference, seeds):
    """What the figures of a row support, as a sentence."""
    if reference is None:
        return ""
    low, high = row["difference_to_like_low"], row["difference_to_like_high"]
    text = (
        f"{_points(row['difference_to_like'])} points [{_points(low)}, {_points(high)}] "
        f"against {row['like']}"
    )
    if low <= 0 <= high:
        text += ": no difference shown"
    drops = [r["precision_drop_unseen_classes"] for r in (row, reference)]
    if not np.isnan(drops).any():
        text += f"; drop on unseen classes {100 * drops[0]:.0f} points against {100 * drops[1]:.0f}"
    models = f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    return f"{text} (these trained models, {models})"


def build_table(runs, descriptions, seeds, baseline, data):
    """The table ``experiments.csv``, rows in the order of ``descriptions``.

    ``runs``: {experiment: [per seed {"all": summary, "limited": summary, "drop": scalars,
    "correct": array (queries,) of the all-classes model's hits}]}. ``descriptions``:
    {experiment: {"details": text, "like": parent or None}}. ``data``: what the images are.
    """
    correct = {
        name: np.stack([run["correct"] for run in per_seed]) for name, per_seed in runs.items()
    }
    rows = {}
    for name, description in descriptions.items():
        row = {"experiment": name, "details": description["details"], "data": data}
        row["seeds"] = len(seeds)
        first = runs[name][0]
        row |= {key: first["all"][key] for key in ("classes", "queries", "gallery")}
        row["unseen_classes"] = first["limited"]["classes"] - first["limited"]["seen_classes"]
        for column, (part, key) in FIGURES.items():
            values = [run[part].get(key) for run in runs[name]]
            row[column], row[f"{column}_spread"] = mean_and_spread(values)
        for column, other in (("like", description["like"]), ("baseline", baseline)):
            row[column] = other if other in runs else ""
            known = other in runs and other != name
            figures = paired_difference(correct[name], correct[other]) if known else [np.nan] * 3
            for suffix, value in zip(("", "_low", "_high"), figures, strict=True):
                row[f"difference_to_{column}{suffix}"] = value
        rows[name] = row
    for name, row in rows.items():
        row["deduction"] = deduction(row, rows.get(descriptions[name]["like"]), seeds)
    return pd.DataFrame(list(rows.values()))
