"""Does a model know what it does not know? Unseen queries against a gallery of seen classes only."""

import numpy as np
import pandas as pd

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval

# Share of known queries that must be accepted where the false-positive rate is read off.
TRUE_POSITIVE_RATE = 0.95


def reject(known, unknown, *, known_classes=None, unknown_classes=None, draws=10_000, seed=42):
    """How well a threshold on similarity tells unknown queries from known ones: (figures, curve).

    ``known`` (n,) and ``unknown`` (m,): similarity of each query to its nearest gallery image; a
    query is accepted where that is at least the threshold. Figures: ``auroc`` with its 95 % interval
    ``auroc_low``, ``auroc_high`` (where classes are given, for which and then for whose queries both
    sides are resampled), ``false_positive_rate_at_95_tpr`` with its ``threshold``, and both counts.
    The curve has columns threshold, true_positive_rate, false_positive_rate. Without queries on
    both sides all figures are NaN and the curve is empty.
    """
    names = ["threshold", "true_positive_rate", "false_positive_rate"]
    figures = {
        "auroc": np.nan,
        "auroc_low": np.nan,
        "auroc_high": np.nan,
        "false_positive_rate_at_95_tpr": np.nan,
        "threshold_at_95_tpr": np.nan,
        "known_queries": len(known),
        "unknown_queries": len(unknown),
    }
    if not len(known) or not len(unknown):
        return figures, pd.DataFrame(columns=names)
    from sklearn.metrics import roc_curve

    labels = np.repeat([1, 0], [len(known), len(unknown)])
    false, true, thresholds = roc_curve(
        labels, np.concatenate([known, unknown]), drop_intermediate=False
    )
    first = int(np.argmax(true >= TRUE_POSITIVE_RATE))
    figures["false_positive_rate_at_95_tpr"] = float(false[first])
    figures["threshold_at_95_tpr"] = float(thresholds[first])
    of_known, of_unknown = _placements(known, unknown)
    figures["auroc"] = float(of_unknown.mean())
    if known_classes is not None and unknown_classes is not None:
        # To first order the two sides move the area independently: each by the mean of its
        # placements (DeLong et al., Biometrics 44, 1988).
        samples = sum(
            bootstrap(values[:, None], classes=classes, draws=draws, seed=[seed, side])[:, 0]
            for side, (values, classes) in enumerate(
                ((of_known, known_classes), (of_unknown, unknown_classes))
            )
        )
        low, high = percentile_interval(samples - figures["auroc"])
        figures["auroc_low"], figures["auroc_high"] = max(0.0, low), min(1.0, high)
    curve = pd.DataFrame(dict(zip(names, (thresholds, true, false), strict=True)))
    # scikit-learn begins with an infinite threshold, which accepts nothing.
    return figures, curve[np.isfinite(curve["threshold"])]


def _placements(known, unknown):
    """Each query's share of the other side that lies on the right side of it, ties counting half."""

    def share_below(values, others):
        ordered = np.sort(others)
        below = np.searchsorted(ordered, values, "left")
        equal = np.searchsorted(ordered, values, "right") - below
        return (below + equal / 2) / len(others)

    return share_below(known, unknown), 1 - share_below(unknown, known)
