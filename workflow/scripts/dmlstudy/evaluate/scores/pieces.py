"""The scores by name, in the order of tables. Higher: rather an image of an enrolled class.

To add one, write a module beside this with a function ``score(case)`` and add a line here.
"""

import numpy as np

from dmlstudy.evaluate.scores import energy, mahalanobis, margin, similarity
from dmlstudy.evaluate.scores.case import Case

SCORES = {
    "similarity": similarity.score,
    "margin": margin.score,
    "energy": energy.score,
    "mahalanobis": mahalanobis.score,
}

# Similarities that are held at a time; as many doubles are 128 MB.
PAIRS = 2**24


def score_images(images, enrolled, own=None, names=tuple(SCORES)):
    """({score: scores (n,)}, class ids of the nearest images (n,)), some images at a time.

    ``images``, ``enrolled``, ``own``: see `Case`; ``names``: the scores that are wanted.
    """
    step = max(1, PAIRS // len(enrolled.vectors))
    found, nearest = {name: [np.empty(0)] for name in names}, [np.empty(0, dtype=np.int64)]
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        case = Case(images[rows], enrolled, None if own is None else own[rows])
        for name in names:
            found[name].append(SCORES[name](case))
        nearest.append(case.nearest_classes)
    return {name: np.concatenate(parts) for name, parts in found.items()}, np.concatenate(nearest)
