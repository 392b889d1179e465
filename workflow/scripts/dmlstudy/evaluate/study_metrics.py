"""Metrics of an experiment over its seeds and its draws of unseen classes, with intervals.

To add a metric with an interval, add a line to `METRICS`.
"""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval, t_interval
from dmlstudy.evaluate.leave_one_out import recall_over_runs
from dmlstudy.evaluate.metrics import harmonic_mean


@dataclass(frozen=True)
class Metric:
    """How a metric of an experiment is computed from its runs.

    ``model``: whose answers count: ``all`` (the all-classes model), ``limited``, or ``drop`` (the
    first minus the second). ``key``: the key of the same number in a run's summary.json; or in its
    scalars.json if the metric needs both models or a draw of unseen classes. ``answer``: what is
    scored, see `hits`. ``classes``: whose queries count (``all``, ``seen`` or ``unseen`` classes).
    ``macro``: average over classes instead of queries. ``over``: what is resampled for the
    interval: ``queries``, or ``classes`` and then their queries. Use ``classes`` if the metric
    should hold for other classes too.
    """

    model: str
    key: str
    answer: str = "precision_at_1"
    classes: str = "all"
    macro: bool = False
    over: str = "queries"

    @property
    def by_draw(self):
        """Whether the metric depends on which classes are unseen."""
        return self.model != "all" or self.classes != "all"

    @property
    def source(self):
        """Where a run has the value: "all", "limited" (summary.json) or "scalars"."""
        return self.model if self.model == "limited" or not self.by_draw else "scalars"


UNSEEN = {"classes": "unseen", "over": "classes"}
DROP = {"macro": True, "over": "classes"}
METRICS = {
    "precision_at_1": Metric("all", "precision_at_1"),
    "macro_precision_at_1": Metric("all", "macro_precision_at_1", macro=True, over="classes"),
    "test_accuracy_all_classes": Metric("all", "test_accuracy_known_classes"),
    "softmax_accuracy": Metric("all", "softmax_accuracy_known_classes", "softmax"),
    "test_accuracy_limited_classes": Metric(
        "limited", "test_accuracy_known_classes", "before_enrolment", "seen"
    ),
    "limited_precision_at_1": Metric("limited", "precision_at_1"),
    "limited_precision_at_1_seen_classes": Metric(
        "limited", "precision_at_1_seen_classes", classes="seen"
    ),
    "limited_precision_at_1_unseen_classes": Metric(
        "limited", "precision_at_1_unseen_classes", **UNSEEN
    ),
    # The oracle: the same queries, answered by a model that was trained on the unseen classes.
    "all_classes_precision_at_1_seen_classes": Metric(
        "all", "all_classes_precision_at_1_seen_classes", classes="seen"
    ),
    "all_classes_precision_at_1_unseen_classes": Metric(
        "all", "all_classes_precision_at_1_unseen_classes", **UNSEEN
    ),
    "precision_drop_unseen_classes": Metric(
        "drop", "precision_drop_unseen_classes", classes="unseen", **DROP
    ),
    "precision_drop_seen_classes": Metric(
        "drop", "precision_drop_seen_classes", classes="seen", **DROP
    ),
    "precision_drop_all_classes": Metric("drop", "precision_drop_all_classes", **DROP),
}

# Metrics that are compared between experiments. The first one decides the deduction.
COMPARED = (
    "precision_at_1",
    "limited_precision_at_1",
    "limited_precision_at_1_seen_classes",
    "limited_precision_at_1_unseen_classes",
    "precision_drop_unseen_classes",
    "precision_drop_seen_classes",
)

# Harmonic means of the accuracies of seen and unseen classes: the metrics that they combine.
HARMONIC_MEANS = {
    name: tuple(f"{accuracy}_{part}_classes" for part in ("seen", "unseen"))
    for name, accuracy in (
        ("limited_harmonic_mean", "limited_precision_at_1"),
        ("all_classes_harmonic_mean", "all_classes_precision_at_1"),
    )
}
# A value that a run states may differ by this much from the one of its queries: rounding of sums.
ROUNDING = 1e-9
# The last point of a training curve; `evaluation.check_curve` compares it.
CURVE_KEY = "test_accuracy_known_classes"


def hits(queries, answer):
    """The score of each query (n,), float in 0…1; None if the table has no such answers.

    ``queries``: a table of `retrieval.answer_queries`. ``answer``: ``precision_at_1`` (nearest
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
    """The answers of all models of an experiment.

    ``all``: tables of `retrieval.answer_queries` of the all-classes models, one per seed.
    ``limited``: those of the limited models, {class set: one per seed}. ``seen``: {class set:
    boolean mask over classes}. All tables have the same queries in the same order. ``leave_one_out``:
    {class set: tables of `leave_one_out.leave_one_out`, one per seed}; empty if nobody needs them.
    """

    all: list
    limited: dict
    seen: dict
    leave_one_out: dict = field(default_factory=dict)

    @property
    def classes(self):
        """The class id of each query (n,)."""
        return self.all[0]["class_id"].to_numpy()


def contributions(metric, answers):
    """(numerators (seeds, n), denominators (n,)) of a metric over n queries; see `intervals`.

    Metrics of limited models are means over the draws of unseen classes. None if the models give no
    such answers.
    """
    classes = answers.classes
    draws = list(answers.limited) if metric.by_draw else [None]
    numerators = np.zeros((len(answers.all), len(classes)))
    denominators = np.zeros(len(classes))
    for draw in draws:
        chosen = np.ones(len(classes), dtype=bool)
        if metric.classes != "all":
            chosen = answers.seen[draw][classes] == (metric.classes == "seen")
        if not chosen.any():
            return None
        weights = chosen / chosen.sum()
        if metric.macro:
            sizes = np.bincount(classes[chosen], minlength=classes.max() + 1)
            weights = chosen / np.maximum(sizes[classes], 1) / np.count_nonzero(sizes)
        for seed in range(len(answers.all)):
            scores = []
            if metric.model != "limited":
                scores.append(hits(answers.all[seed], metric.answer))
            if metric.model != "all":
                scores.append(hits(answers.limited[draw][seed], metric.answer))
            if any(one is None for one in scores):
                return None
            values = scores[0] - scores[1] if metric.model == "drop" else scores[0]
            numerators[seed] += values * weights / len(draws)
        denominators += weights / len(draws)
    return numerators, denominators


def by_seed(found):
    """The metric of each seed (seeds,), from its `contributions`."""
    numerators, denominators = found
    return numerators.sum(axis=1) / denominators.sum()


def values_of(answers):
    """Each metric of `METRICS` and `HARMONIC_MEANS` that the models have: {name: (seeds,)}."""
    found = {name: contributions(metric, answers) for name, metric in METRICS.items()}
    values = {name: by_seed(one) for name, one in found.items() if one is not None}
    for name, parts in HARMONIC_MEANS.items():
        if values.keys() >= set(parts):
            values[name] = harmonic_mean(*(values[part] for part in parts))
    return values


def check_stated(name, values, stated):
    """Raise StudyError if runs state another value of a metric than their queries give.

    ``values`` (seeds,): what the queries give; ``stated``: per seed a list with what the run of each
    draw states. Tables show both numbers, and the interval is that of the queries.
    """
    for position, (value, of_draws) in enumerate(zip(values, stated, strict=True), start=1):
        if None in of_draws or not abs(float(np.mean(of_draws)) - value) <= ROUNDING:
            said = "nothing" if None in of_draws else f"{np.mean(of_draws):.9g}"
            raise StudyError(
                f"{name}, seed {position} of {len(values)}: the runs state {said}, but their queries "
                f"give {value:.9g}. This is a mistake of the evaluation; please report it"
            )


def resampled(columns, classes, *, draws, seed):
    """Bootstrap samples of several metrics: {key: (draws,)}.

    ``columns``: {key: (metric, numerators (n,), denominators (n,))}. Metrics over the same queries
    or classes share their resamples. This is faster, and it pairs the metrics.
    """
    groups = {}
    for key, (metric, _, denominators) in columns.items():
        groups.setdefault((metric.over, (denominators > 0).tobytes()), []).append(key)
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
    """Mean and standard deviation (n − 1; NaN for one value) of the values, without None."""
    values = [value for value in values if value is not None]
    if not values:
        return float("nan"), float("nan")
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return float(np.mean(values)), spread


def metrics_table(answers, runs, *, draws, seed):
    """The table ``summary.csv`` of an experiment: a row per metric.

    ``runs``: per seed {"all": [summary], "limited": [summary per draw], "scalars": [scalars per
    draw]}: what the runs state. ``draws``: number of resamples. Columns: metric; value (mean over
    seeds and draws of unseen classes); low, high (95 % bootstrap interval of the scores, averaged
    over seeds; empty for NMI, which is not a mean over queries); over (what is resampled,
    "queries" or "classes"); seeds_low, seeds_high (t-interval over seeds); spread (standard
    deviation over seeds); seeds, unseen_draws; queries, classes (how many enter the metric, mean
    over draws).

    Value and interval come from the same scores of the queries. Raises StudyError if a run states
    another value.
    """
    classes = answers.classes
    everything = (len(classes), len(np.unique(classes)))
    rows = []

    def add(name, values, interval=(np.nan, np.nan), over="", counted=everything):
        if not len(values):
            return
        value, spread = mean_and_spread(values)
        seeds_low, seeds_high, _ = t_interval(values)
        rows.append(
            {
                "metric": name,
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

    def stated(source, key):
        """What the runs state: per seed a list with a value per draw."""
        return [[scalars.get(key) for scalars in run[source]] for run in runs]

    def add_stated(name, source, key):
        """Add a metric that is no mean over queries, so that only the runs have it."""
        of_seeds = [float(np.mean(one)) for one in stated(source, key) if None not in one]
        add(name, of_seeds)

    per_query = [
        key
        for key in runs[0]["all"][0]
        if key.startswith(("majority_vote_", "recall_at_")) or key in ("r_precision", "map_at_r")
    ]
    known = {
        **METRICS,
        **{key: Metric("all", key, key) for key in per_query},
        **{f"limited_{key}": Metric("limited", key, key) for key in per_query},
    }
    columns, values = {}, {}
    combined = {part for parts in HARMONIC_MEANS.values() for part in parts}
    for name, metric in known.items():
        found = contributions(metric, answers)
        if found is None:
            continue
        values[name] = by_seed(found)
        if metric.key != CURVE_KEY:
            check_stated(name, values[name], stated(metric.source, metric.key))
        columns[name] = (metric, found[0].mean(axis=0), found[1])
        if name in combined:
            # A harmonic mean is not linear: it needs the samples of each seed.
            for position, numerators in enumerate(found[0]):
                columns[name, position] = (metric, numerators, found[1])
    samples = resampled(columns, classes, draws=draws, seed=seed)
    for name, metric in known.items():
        if name in values:
            interval = percentile_interval(samples[name])
            add(name, values[name], interval, metric.over, _counted(metric, answers))
    for name, parts in HARMONIC_MEANS.items():
        if values.keys() >= set(parts):
            of_seeds = [
                harmonic_mean(*(samples[part, position] for part in parts))
                for position in range(len(runs))
            ]
            interval = percentile_interval(np.mean(of_seeds, axis=0))
            add(name, harmonic_mean(*(values[part] for part in parts)), interval, "classes")
    add_stated("nmi", "all", "nmi")
    add_stated("limited_nmi", "limited", "nmi")
    for key in ("rejection_auroc", "rejection_false_positive_rate_at_95_tpr"):
        add_stated(f"limited_{key}", "scalars", key)
    tables = answers.leave_one_out
    of_draws = [table for of_seeds in tables.values() for table in of_seeds[:1]]
    counted = tuple(
        float(np.mean([count(table) for table in of_draws])) if of_draws else np.nan
        for count in (len, lambda table: table["class_id"].nunique())
    )
    ending = "_unseen_leave_one_out"
    keys = {
        int(key.removeprefix("recall_at_").removesuffix(ending)): key
        for key in (runs[0]["scalars"][0] if of_draws else ())
        if key.endswith(ending)
    }
    recalls = recall_over_runs(tables, list(keys), draws=draws, seed=seed) if keys else {}
    for k, (of_seeds, interval) in recalls.items():
        check_stated(keys[k], of_seeds, stated("scalars", keys[k]))
        add(f"limited_{keys[k]}", of_seeds, interval, "queries", counted)
    return pd.DataFrame(rows)


def _counted(metric, answers):
    """How many (queries, classes) enter a metric, mean over draws."""
    classes = answers.classes
    masks = [np.ones(len(classes), dtype=bool)]
    if metric.classes != "all":
        masks = [seen[classes] == (metric.classes == "seen") for seen in answers.seen.values()]
    return (
        float(np.mean([mask.sum() for mask in masks])),
        float(np.mean([len(np.unique(classes[mask])) for mask in masks])),
    )
