"""Generates the *deduction* of a row: a sentence that its metrics support, from a few templates.

A difference counts as shown only if its interval excludes 0. With one seed the sentence is about
two trained models. It is about methods only if there are several seeds, and their interval excludes
0 too.
"""

import math

SIGNIFICANT = 0.05
# The comparisons that Holm's adjustment of a p-value counts, by role: `comparison.FAMILY`.
FAMILIES = {
    "like": "all comparisons with the experiment that a row is like",
    "baseline": "all comparisons with the baseline",
    "classifier": "all comparisons with the classifier's softmax",
    "untrained": "all comparisons with the features before training",
    "published": "all comparisons of published conclusions",
}


def hundredths(value):
    """A share in per cent, with one decimal and a real minus sign."""
    # Adding 0 turns −0.0 into 0.0.
    return f"{round(100 * value, 1) + 0.0:.1f}".replace("-", "−")


def interval_text(row):
    """A difference with its sign and interval, such as ``+2.1 points [0.8, 3.4]``."""
    sign = "+" if row["difference"] > 0 else ""
    low, high = (hundredths(row[key]) for key in ("low", "high"))
    return f"{sign}{hundredths(row['difference'])} points [{low}, {high}]"


def shown(row):
    """Whether the interval of a difference excludes 0."""
    return row["low"] > 0 or row["high"] < 0


def of_methods(row):
    """Whether a difference also holds over seeds, so that it is one between methods."""
    if row["seeds"] < 2 or math.isnan(row["seeds_low"]):
        return False
    same_side = (row["seeds_low"] > 0) == (row["difference"] > 0)
    return shown(row) and (row["seeds_low"] > 0 or row["seeds_high"] < 0) and same_side


def accuracy_phrase(row):
    """The difference in precision@1 between two rows, in words."""
    other = row["compared_with"]
    if row["role"] == "classifier":
        other = f"the softmax of {other}"
    if not shown(row):
        return f"no difference shown from {other} ({interval_text(row)})"
    if of_methods(row):
        word = "better" if row["difference"] > 0 else "worse"
        text = f"{word} than {other} over {row['seeds']} seeds: {interval_text(row)}"
        low, high = (hundredths(row[key]) for key in ("seeds_low", "seeds_high"))
        text += f", over seeds [{low}, {high}]"
    else:
        text = f"{interval_text(row)} {'over' if row['difference'] > 0 else 'against'} {other}"
        if row["seeds"] > 1:
            text += ", but not shown over seeds"
    if row["p_holm"] >= SIGNIFICANT:
        text += f" (p = {row['p_holm']:.2g} after Holm's adjustment over {FAMILIES[row['role']]})"
    return text


def drop_phrase(row, drop, other_drop):
    """The drops on unseen classes of two rows, and whether a difference is shown, in words."""
    values = (f"{round(100 * value) + 0:d}".replace("-", "−") for value in (drop, other_drop))
    text = "drop on unseen classes {} points against {}".format(*values)
    return text if shown(row) else f"{text}, no difference shown"


def own_phrases(accuracy, drop):
    """Precision@1 and the drop on unseen classes, for a row that is compared with nothing."""
    return [
        f"precision@1 {share(accuracy)}",
        f"drop on unseen classes {share(drop).replace(' %', ' points')}",
    ]


def share(row):
    """A metric in per cent with its interval, such as ``46.3 % [44.1, 48.5]``."""
    value, low, high = (hundredths(row[key]) for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def deduction(differences, metrics, other_metrics, seeds, counts):
    """The deduction of one row of experiments.csv.

    ``differences``: {metric: row of differences.csv} for the role that counts, empty if the row is
    compared with nothing. ``metrics``, ``other_metrics``: {metric: row of summary.csv} of the row
    and of the one that it is compared with. ``counts``: (queries, unseen queries, unseen classes).
    """
    drop = "precision_drop_unseen_classes"
    if differences:
        phrases = [accuracy_phrase(differences["precision_at_1"])]
        if drop in differences:
            values = (one[drop]["value"] for one in (metrics, other_metrics))
            phrases.append(drop_phrase(differences[drop], *values))
    else:
        phrases = own_phrases(metrics["precision_at_1"], metrics[drop])
    models = (
        f"these two trained models, seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"
    )
    queries, unseen_queries, unseen_classes = counts
    return (
        f"{'; '.join(phrases)} ({models}; {queries:.0f} queries, {unseen_queries:.0f} of "
        f"{unseen_classes:.0f} unseen classes)"
    )
