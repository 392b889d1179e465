"""Any two models of a study: the paired differences of their precision@1, with intervals.

A model is (experiment, "all") or (experiment, "limited"): the model of all classes, or the limited one, over all
seeds and draws of unseen classes. Values and resamples are those of `comparison.differences_table`.
"""

import itertools

from dmlstudy.evaluate.comparison import CLASSIFIER
from dmlstudy.evaluate.intervals import percentile_interval
from dmlstudy.evaluate.study_metrics import METRICS, by_seed, contributions, resampled

ALL, LIMITED = "all", "limited"
# The metric that is the precision@1 of a model, on all queries.
MODELS = {ALL: "precision_at_1", LIMITED: "limited_precision_at_1"}


def stated(differences):
    """Differences that differences.csv states: {(model, other model): (difference, low, high)}."""
    kinds = {metric: kind for kind, metric in MODELS.items()}
    found = {}
    for row in differences.to_dict("records"):
        # The classifier is compared by its softmax, not by its nearest neighbours.
        if row["metric"] in kinds and row["role"] != CLASSIFIER:
            kind = kinds[row["metric"]]
            pair = (row["experiment"], kind), (row["compared_with"], kind)
            found[pair] = tuple(row[key] for key in ("difference", "low", "high"))
    return found


def pair_differences(answers, differences, *, draws, seed):
    """The difference of precision@1 of every two models: {(model, other model): (difference, low, high)}.

    ``answers``: {experiment: `study_metrics.Answers`}; each pair is there once, in their order.
    ``differences``: the table of the comparison; what it states is taken from there. All others are
    computed as it was: over the same queries, with the same resamples, paired by query.
    """
    columns, values = {}, {}
    for name, one in answers.items():
        for kind, metric in MODELS.items():
            found = contributions(METRICS[metric], one)
            columns[name, kind] = (METRICS[metric], found[0].mean(axis=0), found[1])
            values[name, kind] = by_seed(found).mean()
    classes = next(iter(answers.values())).classes
    samples = resampled(columns, classes, draws=draws, seed=seed)
    known = stated(differences)
    found = {}
    for one, other in itertools.combinations(columns, 2):
        if (one, other) in known:
            found[one, other] = known[one, other]
        elif (other, one) in known:
            value, low, high = known[other, one]
            found[one, other] = (-value, -high, -low)
        else:
            low, high = percentile_interval(samples[one] - samples[other])
            found[one, other] = (float(values[one] - values[other]), low, high)
    return found
