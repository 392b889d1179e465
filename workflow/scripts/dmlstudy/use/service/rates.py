"""What the study measured about "unknown": shares of photographs that pass the threshold of the index."""

import re

import pandas as pd

from dmlstudy.evaluate.thresholds import OWN

TABLE = "rejection_thresholds.csv"


COLUMNS = {
    "enrolled": "accepted_unseen_classes",
    "low": "accepted_unseen_classes_low",
    "high": "accepted_unseen_classes_high",
    "not_enrolled": "accepted_unknown_classes",
}


def measured_thresholds(run, way):
    """Thresholds of a run that the study judged: list of dicts, the smallest wanted share first.

    ``run``: its folder; ``way``: one of `thresholds.WAYS`. Means over the limited models of the seed:
    ``accepted_share`` (the wanted one), ``similarity``, and ``rates``: ``enrolled`` (share of new photographs of
    enrolled classes that pass, the model was not trained on them), ``low``, ``high`` (its interval),
    ``not_enrolled`` (the same for classes that are not enrolled); None if one of them is not known.
    """
    path = run.resolve().parents[1] / TABLE
    if not path.is_file():
        return []
    table = pd.read_csv(path)
    rows = table[(table["model"] == run.resolve().name) & (table["way"] == way)]
    if seed := re.fullmatch(r"seed(\d+)", run.resolve().parent.name):
        rows = rows[rows["seed"] == int(seed.group(1))]
    found = []
    for share, part in rows.groupby("accepted_share"):
        means = part[["threshold", *COLUMNS.values()]].mean()
        rates = {name: float(means[column]) for name, column in COLUMNS.items()}
        found.append(
            {
                "accepted_share": float(share),
                "similarity": float(means["threshold"]),
                "rates": None if means[list(COLUMNS.values())].isna().any() else rates,
            }
        )
    return found


def measured_rates(run, threshold):
    """Rates of the ``threshold`` of an index's metadata by `measured_thresholds`, or None."""
    found = measured_thresholds(run, threshold.get("way", OWN))
    shares = {one["accepted_share"]: one["rates"] for one in found}
    return shares.get(threshold["accepted_share"])


def in_words(rates):
    """The rates as a sentence for people."""
    if rates is None:
        return f"How often that is right is not known: the study's table {TABLE} has no row for this index."
    enrolled, low, high, other = (
        f"{100 * rates[name]:.0f} %" for name in ("enrolled", "low", "high", "not_enrolled")
    )
    return (
        f"The study measured: of new photographs of enrolled classes {enrolled} pass ({low} to {high}), "
        f"of photographs of classes that are not enrolled {other} pass too."
    )
