"""Figures of a score that decides which answers are given: OSCR, risk-coverage, and their intervals.

AUROC, its interval and the false-positive rate are `rejection.reject`'s.
"""

import numpy as np

from dmlstudy.evaluate import intervals
from dmlstudy.evaluate.rejection import TRUE_POSITIVE_RATE


def oscr(known, correct, unknown):
    """Area under the curve of correct classification rate against false-positive rate, with its parts.

    ``known`` (n,), ``unknown`` (m,): scores of queries of enrolled and of other classes; ``correct`` (n,):
    whether the known queries' answers are right. The correct classification rate of a threshold is the share
    of known queries that are accepted *and* answered right (Dhamija et al., Reducing Network Agnostophobia,
    NeurIPS 2018). A random score and right answers give 0.5, as with the AUROC. Returns (area, of known (n,),
    of unknown (m,)); the area is the mean of either: the share of the other side that counts for the query.
    """
    correct = np.asarray(correct, dtype=float)
    of_known = correct * _weight_below(known, unknown, np.ones(len(unknown)))
    of_unknown = correct.mean() - _weight_below(unknown, known, correct)
    return float(of_unknown.mean()), of_known, of_unknown


def _weight_below(values, others, weights):
    """Σ of the weights of ``others`` below each value, divided by their number; ties count half."""
    order = np.argsort(others, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(weights)[order])])
    below, up_to = (
        sums[np.searchsorted(others[order], values, side)] for side in ("left", "right")
    )
    return (below + up_to) / 2 / len(others)


def risk_coverage(scores, correct):
    """Area under risk against coverage: 0 is best, and a score that says nothing gives the share of errors.

    ``scores``, ``correct`` (n,). With a threshold at each query's score, the risk is the share of wrong
    answers among those accepted; the area is the mean over queries (Geifman, El-Yaniv, Selective
    Classification for Deep Neural Networks, NeurIPS 2017). Equal scores are accepted together.
    """
    order, ends = _descending(scores)
    wrong = 1 - np.asarray(correct, dtype=float)[order]
    return float(_areas(np.ones((1, len(order))), wrong, ends)[0])


def _descending(scores):
    """Order of falling scores (n,), and for each the last position with an equal score (n,)."""
    order = np.argsort(-np.asarray(scores), kind="stable")
    ordered = -np.asarray(scores)[order]
    return order, np.searchsorted(ordered, ordered, "right") - 1


def _areas(counts, wrong, ends):
    """Areas (draws,) of `risk_coverage`; ``counts`` (draws, n): how often each query is there."""
    accepted = np.cumsum(counts, axis=1)[:, ends]
    errors = np.cumsum(counts * wrong, axis=1)[:, ends]
    # A query that is not there has weight 0, so its risk does not matter.
    risks = errors / np.maximum(accepted, 1)
    return (counts * risks).sum(axis=1) / counts.sum(axis=1)


def _rates(known_counts, unknown_counts, ends, places):
    """False-positive rates (draws,) where `TRUE_POSITIVE_RATE` of the known queries are accepted.

    Both counts are in the order of falling scores; ``ends``: `_descending` of known queries; ``places`` (n,):
    number of unknown queries that reach the score of each known one.
    """
    accepted = np.cumsum(known_counts, axis=1)
    share = accepted / accepted[:, -1:]
    first = ends[np.argmax(share >= TRUE_POSITIVE_RATE, axis=1)]
    sums = np.concatenate(
        [np.zeros((len(unknown_counts), 1)), np.cumsum(unknown_counts, axis=1)], axis=1
    )
    return sums[np.arange(len(sums)), places[first]] / sums[:, -1]


def resampled_intervals(cases, correct, known_classes, unknown_classes, *, draws, seed):
    """95 % intervals of the figures that are no means, resampled over classes, then their queries.

    ``cases``: {score: (known (n,), unknown (m,))}; ``correct`` (n,); the classes (n,) and (m,) of the queries.
    Returns {score: {"false_positive_rate_at_95_tpr": (low, high), "risk_coverage_area": (low, high)}}. All
    scores share the resamples.
    """
    wrong = 1 - np.asarray(correct, dtype=float)
    prepared = {}
    for name, (known, unknown) in cases.items():
        order, ends = _descending(known)
        falling = np.sort(-unknown)
        places = np.searchsorted(falling, -known[order], "right")
        prepared[name] = order, ends, np.argsort(-unknown, kind="stable"), places
    found = {name: ([], []) for name in cases}
    sides = (
        intervals.resamples(len(classes), classes, draws=draws, seed=[seed, side])
        for side, classes in enumerate((known_classes, unknown_classes))
    )
    for known_counts, unknown_counts in zip(*sides, strict=True):
        # A few resamples at a time stay in the processor's cache.
        for some in intervals.blocks(*known_counts.shape):
            of_known, of_unknown = known_counts[some], unknown_counts[some]
            for name, (order, ends, unknown_order, places) in prepared.items():
                counts = np.take(of_known, order, axis=1)
                falling = np.take(of_unknown, unknown_order, axis=1)
                rates, areas = found[name]
                rates.append(_rates(counts, falling, ends, places))
                areas.append(_areas(counts, wrong[order], ends))
    keys = ("false_positive_rate_at_95_tpr", "risk_coverage_area")
    return {
        name: {
            key: intervals.percentile_interval(np.concatenate(samples))
            for key, samples in zip(keys, both, strict=True)
        }
        for name, both in found.items()
    }
