"""Chooses the similarity below which a photograph is unknown, for a wanted rate. See docs/rejection.md.

The rate is the share of new photographs of enrolled classes that are accepted. Only images that the model
was not fitted to have similarities like new photographs. Test images are for judging, so these are the
gallery images of classes that the model was not trained on, each searched among all other gallery images.
A model of all classes has none: it takes the threshold of the limited models of its recipe.
"""

import numpy as np

from dmlstudy.evaluate.search import nearest_neighbours, nearest_other

# Ways of choosing: from gallery images of classes that the model was not trained on; from all gallery images.
HELD_OUT, OWN = "held_out_classes", "own_images"
WAYS = (HELD_OUT, OWN)


def similarities_to_others(vectors, threads=None):
    """Similarity of each gallery image to its nearest *other* image (leave one out): float64 (m,).

    ``vectors``: float32 (m, dim), L2-normalised. Raises ValueError for fewer than two images.
    """
    if len(vectors) < 2:
        raise ValueError("a threshold needs at least two images")
    found = nearest_neighbours(vectors, vectors, 2, threads=threads)
    return nearest_other(*found, np.arange(len(vectors)))[0]


def reached_by(scores, share):
    """The largest score that at least ``share`` of ``scores`` (n,) reach. ValueError if there is none.

    All classes share one threshold: a quantile per class would be based on only a few dozen images, and the
    study's rejection metrics also use one score for all classes.
    """
    if not len(scores):
        raise ValueError("a threshold needs at least one score")
    return float(-np.quantile(-np.asarray(scores), share, method="inverted_cdf"))


def judged_halves(classes, draws, seed):
    """Random halves of ``classes`` (n,), one per draw, to judge thresholds on that others have chosen.

    For an odd number it is the larger half.
    """
    for draw in range(draws):
        order = np.random.default_rng([seed, draw]).permutation(np.asarray(classes))
        yield order[len(order) // 2 :]
