"""Can a model reject classes that are not enrolled? The gallery holds seen classes only."""

import numpy as np
import pandas as pd

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval

# The false-positive rate is taken where this share of known queries is accepted.
TRUE_POSITIVE_RATE = 0.95


def reject(known, unknown, **bootstrapped):
    """`reject_by` one score, ``known`` (n,), ``unknown`` (m,): (metrics, curve)."""
    return reject_by([(known, unknown)], **bootstrapped)[0]


def reject_by(scores, *, known_classes=None, unknown_classes=None, draws=10_000, seed=42):
    """How well a threshold on each score separates known from unknown queries: [(metrics, curve)].

    ``scores``: of each score its values (known (n,), unknown (m,)) of the same queries, such as the
    similarity of each query to its nearest gallery image. A query is accepted if its score is at least
    the threshold. ``known_classes`` (n,), ``unknown_classes`` (m,): needed for the intervals; both
    sides are resampled over classes, then over their queries. All scores share the resamples, which
    takes little longer than one score. Metrics: ``auroc`` with its 95 % interval ``auroc_low``,
    ``auroc_high``; ``false_positive_rate_at_95_tpr`` with its threshold ``threshold_at_95_tpr``;
    ``known_queries`` and ``unknown_queries`` (counts). The curve has columns threshold,
    true_positive_rate, false_positive_rate. If one side has no queries, the metrics are NaN and the
    curve is empty.
    """
    complete = all(len(known) and len(unknown) for known, unknown in scores)
    parts = [_placements(known, unknown) if complete else None for known, unknown in scores]
    found = [_separation(*one, part) for one, part in zip(scores, parts, strict=True)]
    if complete and known_classes is not None and unknown_classes is not None:
        intervals = intervals_of_means(
            parts, known_classes, unknown_classes, draws=draws, seed=seed
        )
        for (metrics, _), (low, high) in zip(found, intervals, strict=True):
            metrics["auroc_low"], metrics["auroc_high"] = low, high
    return found


def intervals_of_means(parts, known_classes, unknown_classes, *, draws, seed):
    """95 % intervals [(low, high)] of areas that are the mean of what each query adds.

    ``parts``: of each area, what the known queries add (n,) and what the unknown queries add (m,); the
    mean of either is the area. To first order, the two sides change the area independently, each
    through the mean of its part (DeLong et al., Biometrics 44, 1988).
    """
    of_known, of_unknown = (np.column_stack(side) for side in zip(*parts, strict=True))
    samples = sum(
        bootstrap(values, classes=classes, draws=draws, seed=[seed, side])
        for side, (values, classes) in enumerate(
            ((of_known, known_classes), (of_unknown, unknown_classes))
        )
    )
    found = []
    for (_, of_unknown), column in zip(parts, samples.T, strict=True):
        low, high = percentile_interval(column - of_unknown.mean())
        found.append((max(0.0, low), min(1.0, high)))
    return found


def _separation(known, unknown, placements):
    """(metrics, curve) of `reject_by` without the interval; ``placements``: None if a side has no queries."""
    names = ["threshold", "true_positive_rate", "false_positive_rate"]
    metrics = {
        "auroc": np.nan,
        "auroc_low": np.nan,
        "auroc_high": np.nan,
        "false_positive_rate_at_95_tpr": np.nan,
        "threshold_at_95_tpr": np.nan,
        "known_queries": len(known),
        "unknown_queries": len(unknown),
    }
    if placements is None:
        return metrics, pd.DataFrame(columns=names)
    from sklearn.metrics import roc_curve

    labels = np.repeat([1, 0], [len(known), len(unknown)])
    false, true, thresholds = roc_curve(
        labels, np.concatenate([known, unknown]), drop_intermediate=False
    )
    first = int(np.argmax(true >= TRUE_POSITIVE_RATE))
    metrics["false_positive_rate_at_95_tpr"] = float(false[first])
    metrics["threshold_at_95_tpr"] = float(thresholds[first])
    metrics["auroc"] = float(placements[1].mean())
    curve = pd.DataFrame(dict(zip(names, (thresholds, true, false), strict=True)))
    # scikit-learn's first threshold is infinite and accepts no query.
    return metrics, curve[np.isfinite(curve["threshold"])]


def _placements(known, unknown):
    """DeLong's placement values (n,) and (m,).

    For a known query it is the share of unknown queries with a lower similarity; for an unknown
    query the share of known queries with a higher one. Ties count half.
    """

    def share_below(values, others):
        ordered = np.sort(others)
        below = np.searchsorted(ordered, values, "left")
        equal = np.searchsorted(ordered, values, "right") - below
        return (below + equal / 2) / len(others)

    return share_below(known, unknown), 1 - share_below(unknown, known)
