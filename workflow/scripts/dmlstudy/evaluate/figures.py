"""An experiment's figures over its seeds and draws of unseen classes, with intervals.

To add a figure with an interval: one line in `FIGURES`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval, t_interval
from dmlstudy.evaluate.metrics import harmonic_mean


@dataclass(frozen=True)
class Figure:
    """How a figure of an experiment follows from its runs.

    ``model``: whose answers, ``all`` (all-classes), ``limited`` or ``drop`` (the first less the
    second). ``key``: where a run's value stands: in summary.json, or in scalars.json where the
    figure needs both models or a draw of unseen classes. ``answer``: what counts of a query's
    answer, see `hits`. ``classes``: of which classes' queries.
    ``macro``: averaged over classes, not queries. ``over``: what is drawn anew for its interval,
    ``queries`` or ``classes`` (and then their queries): whatever speaks of classes that might have
    been others.
    """

    model: str
    key: str
    answer: str = "precision_at_1"
    classes: str = "all"
    macro: bool = False
    over: str = "queries"

    @property
    def by_draw(self):
        """Whether it depends on which classes are unseen."""
        return self.model != "all" or self.classes != "all"

    @property
    def source(self):
        return self.model if self.model == "limited" or not self.by_draw else "scalars"


UNSEEN = {"classes": "unseen", "over": "classes"}
DROP = {"macro": True, "over": "classes"}
FIGURES = {
    "precision_at_1": Figure("all", "precision_at_1"),
    "macro_precision_at_1": Figure("all", "macro_precision_at_1", macro=True, over="classes"),
    "test_accuracy_all_classes": Figure("all", "test_accuracy_known_classes"),
    "softmax_accuracy": Figure("all", "softmax_accuracy_known_classes", "softmax"),
    "test_accuracy_limited_classes": Figure(
        "limited", "test_accuracy_known_classes", "before_enrolment", "seen"
    ),
    "limited_precision_at_1": Figure("limited", "precision_at_1"),
    "limited_precision_at_1_seen_classes": Figure(
        "limited", "precision_at_1_seen_classes", classes="seen"
    ),
    "limited_precision_at_1_unseen_classes": Figure(
        "limited", "precision_at_1_unseen_classes", **UNSEEN
    ),
    # The oracle: what a model that was trained on the unseen classes makes of the same queries.
    "all_classes_precision_at_1_seen_classes": Figure(
        "all", "all_classes_precision_at_1_seen_classes", classes="seen"
    ),
    "all_classes_precision_at_1_unseen_classes": Figure(
        "all", "all_classes_precision_at_1_unseen_classes", **UNSEEN
    ),
    "precision_drop_unseen_classes": Figure(
        "drop", "precision_drop_unseen_classes", classes="unseen", **DROP
    ),
    "precision_drop_seen_classes": Figure(
        "drop", "precision_drop_seen_classes", classes="seen", **DROP
    ),
    "precision_drop_all_classes": Figure("drop", "precision_drop_all_classes", **DROP),
}

# Figures that are compared between experiments; the first decides the sentence.
COMPARED = (
    "precision_at_1",
    "limited_precision_at_1",
    "limited_precision_at_1_seen_classes",
    "limited_precision_at_1_unseen_classes",
    "precision_drop_unseen_classes",
    "precision_drop_seen_classes",
)


# Figures that depend on an accuracy of seen and one of unseen classes.
HARMONIC_MEANS = {
    "limited_harmonic_mean": ("limited", "harmonic_mean", "limited_precision_at_1_{}_classes"),
    "all_classes_harmonic_mean": (
        "scalars",
        "all_classes_harmonic_mean",
        "all_classes_precision_at_1_{}_classes",
    ),
}


def hits(queries, answer):
    """What each query adds to a figure (n,), float in 0…1, or None where nothing answered so.

    ``queries``: a table of `evaluation.answer_queries`. ``answer``: ``precision_at_1`` (nearest
    neighbour), ``softmax``, ``before_enrolment`` (nearest neighbour among seen classes only),
    ``majority_vote_{n}``, ``recall_at_{k}``, ``r_precision`` or ``map_at_r``.
    """
    if answer == "precision_at_1":
        return queries["correct"].to_numpy(dtype=float)
    if answer.startswith("recall_at_"):
        ranks = queries["first_correct_rank"].to_numpy()
        return ((ranks >= 1) & (ranks <= int(answer.removeprefix("recall_at_")))).astype(float)
    if answer in ("r_precision", "map_at_r"):
        column = {"map_at_r": "average_precision_at_r"}.get(answer, answer)
        return queries[column].to_numpy(dtype=float)
    column = {"softmax": "softmax_class_id", "before_enrolment": "nearest_seen_class_id"}.get(
        answer, f"{answer.removeprefix('majority_')}_class_id"
    )
    if column not in queries:
        return None
    return (queries[column] == queries["class_id"]).to_numpy(dtype=float)


@dataclass
class Answers:
    """All answers of an experiment's models.

    ``all``: the all-classes models' tables of `evaluation.answer_queries`, one per seed.
    ``limited``: the limited models', {class set: one per seed}. ``seen``: {class set: boolean mask
    over classes}. The rows of all tables are the same queries.
    """

    all: list
    limited: dict
    seen: dict

    @property
    def classes(self):
        """Class of each query (n,)."""
        return self.all[0]["class_id"].to_numpy()


def contributions(figure, answers):
    """(numerators (seeds, n), denominators (n,)) of a figure over queries; see `intervals`.

    A figure of limited models is the mean over the draws of unseen classes. None where the models
    give no such answers.
    """
    classes = answers.classes
    draws = list(answers.limited) if figure.by_draw else [None]
    numerators = np.zeros((len(answers.all), len(classes)))
    denominators = np.zeros(len(classes))
    for draw in draws:
        chosen = np.ones(len(classes), dtype=bool)
        if figure.classes != "all":
            chosen = answers.seen[draw][classes] == (figure.classes == "seen")
        if not chosen.any():
            return None
        weights = chosen / chosen.sum()
        if figure.macro:
            sizes = np.bincount(classes[chosen], minlength=classes.max() + 1)
            weights = chosen / np.maximum(sizes[classes], 1) / np.count_nonzero(sizes)
        for seed in range(len(answers.all)):
            parts = []
            if figure.model != "limited":
                parts.append(hits(answers.all[seed], figure.answer))
            if figure.model != "all":
                parts.append(hits(answers.limited[draw][seed], figure.answer))
            if any(part is None for part in parts):
                return None
            values = parts[0] - parts[1] if figure.model == "drop" else parts[0]
            numerators[seed] += values * weights / len(draws)
        denominators += weights / len(draws)
    return numerators, denominators


def resampled(columns, classes, *, draws, seed):
    """Bootstrap samples of several figures: {key: (draws,)}.

    ``columns``: {key: (figure, numerators (n,), denominators (n,))}. Figures that draw the same
    queries or classes share their resamples, which costs less and pairs them.
    """
    groups = {}
    for key, (figure, _, denominators) in columns.items():
        groups.setdefault((figure.over, (denominators > 0).tobytes()), []).append(key)
    samples = {}
    for (over, counted), keys in groups.items():
        counted = np.frombuffer(counted, dtype=bool)
        found = bootstrap(
            np.column_stack([columns[key][1][counted] for key in keys]),
            np.column_stack([columns[key][2][counted] for key in keys]),
            classes=classes[counted] if over == "classes" else None,
            draws=draws,
            seed=seed,
        )
        samples |= dict(zip(keys, found.T, strict=True))
    return samples


def mean_and_spread(values):
    """Mean and standard deviation (n − 1; NaN for one value) of the values that are not None."""
    values = [value for value in values if value is not None]
    if not values:
        return float("nan"), float("nan")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def figures_table(answers, runs, *, draws, seed):
    """Every figure of an experiment, a row each.

    ``runs``: per seed {"all": [summary], "limited": [summary per draw], "scalars": [scalars per
    draw]}, where the values stand. Columns: figure, value (mean over seeds and draws of unseen
    classes), low, high (95 %, resampled as ``over`` says, hits averaged over seeds; empty for NMI,
    which is no mean over queries), over, seeds_low, seeds_high (t-interval over seeds), spread
    (standard deviation over seeds), seeds, unseen_draws, queries, classes (those that it counts;
    means over draws).
    """
    classes = answers.classes
    everything = (len(classes), len(np.unique(classes)))
    rows = []

    def add(name, source, key, interval=(np.nan, np.nan), over="", counted=everything):
        values = []
        for run in runs:
            of_draws = [part.get(key) for part in run[source]]
            if None not in of_draws:
                values.append(float(np.mean(of_draws)))
        if not values:
            return
        value, spread = mean_and_spread(values)
        seeds_low, seeds_high, _ = t_interval(values)
        rows.append(
            {
                "figure": name,
                "value": value,
                "low": interval[0],
                "high": interval[1],
                "over": over,
                "seeds_low": seeds_low,
                "seeds_high": seeds_high,
                "spread": spread,
                "seeds": len(values),
                "unseen_draws": len(answers.limited),
                "queries": counted[0],
                "classes": counted[1],
            }
        )

    per_query = [
        key
        for key in runs[0]["all"][0]
        if key.startswith(("majority_vote_", "recall_at_")) or key in ("r_precision", "map_at_r")
    ]
    known = {
        **FIGURES,
        **{key: Figure("all", key, key) for key in per_query},
        **{f"limited_{key}": Figure("limited", key, key) for key in per_query},
    }
    columns = {}
    for name, figure in known.items():
        found = contributions(figure, answers)
        if found is not None:
            columns[name] = (figure, found[0].mean(axis=0), found[1])
    samples = resampled(columns, classes, draws=draws, seed=seed)
    for name, (figure, _, _) in columns.items():
        add(
            name,
            figure.source,
            figure.key,
            percentile_interval(samples[name]),
            figure.over,
            _counted(figure, answers),
        )
    for name, (source, key, parts) in HARMONIC_MEANS.items():
        both = [samples.get(parts.format(part)) for part in ("seen", "unseen")]
        if all(one is not None for one in both):
            add(name, source, key, percentile_interval(harmonic_mean(*both)), "classes")
    add("nmi", "all", "nmi")
    add("limited_nmi", "limited", "nmi")
    for key in ("rejection_auroc", "rejection_false_positive_rate_at_95_tpr"):
        add(f"limited_{key}", "scalars", key)
    return pd.DataFrame(rows)


def _counted(figure, answers):
    """(queries, classes) that a figure counts, means over draws."""
    classes = answers.classes
    masks = [np.ones(len(classes), dtype=bool)]
    if figure.classes != "all":
        masks = [seen[classes] == (figure.classes == "seen") for seen in answers.seen.values()]
    return (
        float(np.mean([mask.sum() for mask in masks])),
        float(np.mean([len(np.unique(classes[mask])) for mask in masks])),
    )
