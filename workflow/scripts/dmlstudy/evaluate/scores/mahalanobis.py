"""Mahalanobis distance to the nearest class mean, as a score (Lee et al., A Simple Unified Framework for
Detecting Out-of-Distribution Samples and Adversarial Attacks, NeurIPS 2018).

The classes share one covariance. It is shrunk towards a multiple of the identity (Ledoit, Wolf, Journal of
Multivariate Analysis 88, 2004; scikit-learn's), so that it has an inverse with fewer images than dimensions.
"""

import numpy as np


def score(case):
    """Scores (n,) of a `Case`: minus the squared distance to the nearest class mean.

    An image that is left out is taken out of the mean of its class, but not out of the covariance, where one
    image of many counts little. An image that is the only one of its class has no mean there. If no class
    varies, such as with one image of each, the distances are Euclidean. Raises ValueError if an image that is
    left out is all there is.
    """
    enrolled = case.enrolled
    if "mahalanobis" not in enrolled.memory:
        enrolled.memory["mahalanobis"] = _fitted(enrolled)
    whiten, means, counts = enrolled.memory["mahalanobis"]
    images = case.images.astype(np.float64) @ whiten
    squares = (images**2).sum(axis=1)[:, None] + (means**2).sum(axis=1) - 2 * images @ means.T
    squares = np.maximum(squares, 0)
    if case.own is not None:
        rows, columns = np.arange(len(images)), enrolled.positions[case.own]
        others = counts[columns] - 1
        # The mean of n images without x is (n·mean - x) / (n - 1), so x lies n / (n - 1) times as far away.
        factor = counts[columns] / np.maximum(others, 1)
        own = squares[rows, columns] * factor**2
        squares[rows, columns] = np.where(others > 0, own, np.inf)
    nearest = squares.min(axis=1)
    if not np.isfinite(nearest).all():
        raise ValueError("the gallery has no other image than the one that is left out")
    return -nearest


def _fitted(enrolled):
    """(whitening (dim, k), whitened class means (c, k), images per class (c,))."""
    counts = np.bincount(enrolled.positions)
    vectors = enrolled.vectors.astype(np.float64)
    means = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(means, enrolled.positions, vectors)
    means /= counts[:, None]
    whiten = _whitening(vectors - means[enrolled.positions])
    return whiten, means @ whiten, counts


def _whitening(deviations):
    """W (dim, k) with W Wᵀ = inverse of the shrunk covariance of deviations from class means (m, dim)."""
    from sklearn.covariance import ledoit_wolf

    if not deviations.any():
        return np.eye(deviations.shape[1])
    covariance, _ = ledoit_wolf(deviations, assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    # Directions without variance, such as dimensions that are always 0, cannot be divided by.
    kept = values > values[-1] * 1e-12
    return vectors[:, kept] / np.sqrt(values[kept])
