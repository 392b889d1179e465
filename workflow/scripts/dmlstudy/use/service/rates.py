"""What the study measured about "unknown": shares of photographs that pass the threshold of the index."""

import re

import pandas as pd

from dmlstudy.evaluate.thresholds import OWN

TABLE = "rejection_thresholds.csv"


def measured_rates(run, threshold):
    """Rates of a run by its experiment's table, or None if there is none.

    ``run``: its folder; ``threshold``: that of the index's metadata. Means over the limited models of the seed:
    ``enrolled`` (share of new photographs of enrolled classes that pass, the model was not trained on them),
    ``low``, ``high`` (its interval), ``not_enrolled`` (the same for classes that are not enrolled).
    """
    path = run.resolve().parents[1] / TABLE
    if not path.is_file():
        return None
    table = pd.read_csv(path)
    seed = re.fullmatch(r"seed(\d+)", run.resolve().parent.name)
    rows = table[
        (table["model"] == run.resolve().name)
        & (table["way"] == threshold.get("way", OWN))
        & (table["accepted_share"] == threshold["accepted_share"])
    ]
    if seed:
        rows = rows[rows["seed"] == int(seed.group(1))]
    columns = {
        "enrolled": "accepted_unseen_classes",
        "low": "accepted_unseen_classes_low",
        "high": "accepted_unseen_classes_high",
        "not_enrolled": "accepted_unknown_classes",
    }
    means = rows[list(columns.values())].mean()
    if means.isna().any():
        return None
    return {name: float(means[column]) for name, column in columns.items()}


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
