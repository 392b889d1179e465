"""Can a model reject classes that are not enrolled? The gallery holds seen classes only."""

import numpy as np
import pandas as pd

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval

# The false-positive rate is taken where this share of known queries is accepted.
TRUE_POSITIVE_RATE = 0.95


def reject(known, unknown, *, known_classes=None, unknown_classes=None, draws=10_000, seed=42):
    """How well a threshold on similarity separates known from unknown queries: (metrics, curve).

    ``known`` (n,), ``unknown`` (m,): similarity of each query to its nearest gallery image. A query
    is accepted if its similarity is at least the threshold. ``known_classes`` (n,),
    ``unknown_classes`` (m,): needed for the interval; both sides are resampled over classes, then
    over their queries. Metrics: ``auroc`` with its 95 % interval ``auroc_low``, ``auroc_high``;
    ``false_positive_rate_at_95_tpr`` with its threshold ``threshold_at_95_tpr``; ``known_queries``
    and ``unknown_queries`` (counts). The curve has columns threshold, true_positive_rate,
    false_positive_rate. If one side has no queries, the metrics are NaN and the curve is empty.
    """
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
    if not len(known) or not len(unknown):
        return metrics, pd.DataFrame(columns=names)
    from sklearn.metrics import roc_curve

    labels = np.repeat([1, 0], [len(known), len(unknown)])
    false, true, thresholds = roc_curve(
        labels, np.concatenate([known, unknown]), drop_intermediate=False
    )
    first = int(np.argmax(true >= TRUE_POSITIVE_RATE))
    metrics["false_positive_rate_at_95_tpr"] = float(false[first])
    metrics["threshold_at_95_tpr"] = float(thresholds[first])
    of_known, of_unknown = _placements(known, unknown)
    metrics["auroc"] = float(of_unknown.mean())
    if known_classes is not None and unknown_classes is not None:
        # To first order, the two sides change the area independently, each through the mean of its
        # placement values (DeLong et al., Biometrics 44, 1988).
        samples = sum(
            bootstrap(values[:, None], classes=classes, draws=draws, seed=[seed, side])[:, 0]
            for side, (values, classes) in enumerate(
                ((of_known, known_classes), (of_unknown, unknown_classes))
            )
        )
        low, high = percentile_interval(samples - metrics["auroc"])
        metrics["auroc_low"], metrics["auroc_high"] = max(0.0, low), min(1.0, high)
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
