"""Figures over queries and classes. NumPy in, numbers out."""

import numpy as np


def precision_at_1(correct):
    """Micro precision@1: the share of queries whose nearest gallery image has their class."""
    return float(np.mean(correct)) if len(correct) else float("nan")


def precision_at_1_by_class(correct, class_ids, num_classes):
    """precision@1 per class (num_classes,), NaN for a class without queries."""
    counts = np.bincount(class_ids, minlength=num_classes)
    hits = np.bincount(class_ids, weights=correct, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def paired_bootstrap(differences, *, draws=10_000, seed=42, level=0.95):
    """Percentile interval of the mean of paired differences (n,), resampling the pairs.

    Efron, Tibshirani: An Introduction to the Bootstrap (1993). Returns (low, high).
    """
    differences = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    # Differences of hits are −1, 0 or 1: a resample is a multinomial draw of how many of each.
    values, counts = np.unique(differences, return_counts=True)
    drawn = generator.multinomial(len(differences), counts / len(differences), size=draws)
    means = drawn @ values / len(differences)
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def majority_vote(neighbour_class_ids, n):
    """The class that most of each query's nearest ``n`` neighbours have, and how many have it.

    ``neighbour_class_ids``: integers (queries, k), nearest first; where k < n all k vote. Returns
    (class ids (queries,), counts (queries,) int64). Of classes with equally many votes that wins
    whose nearest member is nearest. Raises ValueError if n or k is less than 1.
    """
    votes = np.asarray(neighbour_class_ids)[:, : max(n, 0)]
    if votes.shape[1] < 1:
        raise ValueError(f"a vote needs at least one neighbour (n is {n})")
    # For each neighbour, how many have its class. A column at a time: memory stays that of `votes`.
    counts = np.zeros(votes.shape, dtype=np.int64)
    for column in votes.T:
        counts += votes == column[:, None]
    # argmax takes the first of equals, and neighbours stand nearest first.
    winners = np.arange(len(votes)), counts.argmax(axis=1)
    return votes[winners], counts[winners]
