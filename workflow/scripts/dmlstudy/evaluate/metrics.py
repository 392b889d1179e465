"""Retrieval and classification metrics. NumPy in, numbers out."""

import numpy as np


def distance(similarity):
    """Euclidean distance of unit vectors from their cosine similarity: √(2 − 2 · similarity)."""
    # Rounding can make the similarity of equal vectors slightly larger than 1.
    return np.sqrt(np.maximum(0, 2 - 2 * np.asarray(similarity, dtype=float)))


def precision_at_1(correct):
    """Micro precision@1: the share of queries whose nearest gallery image has their class."""
    return float(np.mean(correct)) if len(correct) else float("nan")


def precision_at_1_by_class(correct, class_ids, num_classes):
    """precision@1 of each class (num_classes,); NaN for a class without queries."""
    counts = np.bincount(class_ids, minlength=num_classes)
    hits = np.bincount(class_ids, weights=correct, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, hits / np.maximum(counts, 1), np.nan)


def harmonic_mean(seen, unseen):
    """Harmonic mean of two accuracies (scalars or arrays); 0 if one is 0, NaN if one is NaN.

    It is high only if both are high. Generalised zero-shot learning uses it (Xian et al., CVPR
    2017).
    """
    seen, unseen = np.asarray(seen, dtype=float), np.asarray(unseen, dtype=float)
    total = seen + unseen
    return np.divide(2 * seen * unseen, total, out=np.zeros_like(total), where=total != 0)


def first_correct_rank(matches):
    """Rank (1: nearest) of the first neighbour with the query's class; 0 if there is none.

    ``matches``: booleans (queries, k), whether each neighbour has the query's class, nearest first.
    Returns integers (queries,). Recall@k is the share of ranks in 1…k.
    """
    return np.where(matches.any(axis=1), matches.argmax(axis=1) + 1, 0)


def r_precision(matches, relevant):
    """R-precision and average precision at R of each query, both (queries,).

    ``matches``: booleans (queries, k), nearest first, k at least the largest ``relevant``.
    ``relevant`` (queries,): R, the number of gallery images of the query's class. R = 0 gives 0.
    The mean of the average precision is MAP@R (Musgrave et al., A Metric Learning Reality Check,
    ECCV 2020).
    """
    width = int(relevant.max(initial=0))
    within = np.arange(width) < relevant[:, None]
    hits = matches[:, :width] & within
    precision = np.cumsum(hits, axis=1) / np.arange(1, width + 1)
    counts = np.maximum(relevant, 1)
    return hits.sum(axis=1) / counts, (precision * hits).sum(axis=1) / counts


def majority_vote(neighbour_class_ids, n):
    """Majority vote of the nearest ``n`` neighbours: the winning class, and its number of votes.

    ``neighbour_class_ids``: integers (queries, k), nearest first; if k < n, all k vote. Returns
    (class ids (queries,), counts (queries,) int64). Ties go to the class with the closest
    neighbour. Raises ValueError if n or k is less than 1.
    """
    votes = np.asarray(neighbour_class_ids)[:, : max(n, 0)]
    if votes.shape[1] < 1:
        raise ValueError(f"a vote needs at least one neighbour (n is {n})")
    # For each neighbour, how many neighbours have its class. One column at a time, to save memory.
    counts = np.zeros(votes.shape, dtype=np.int64)
    for column in votes.T:
        counts += votes == column[:, None]
    # argmax takes the first of equal counts, and the nearest neighbour is first.
    winners = np.arange(len(votes)), counts.argmax(axis=1)
    return votes[winners], counts[winners]
