"""The vote of the nearest k images, weighted by similarity: DINO's k-NN (Caron et al., ICCV 2021).

A neighbour votes with exp(cosine / temperature), as in Wu et al. (CVPR 2018); DINO's evaluation has k = 20
and a temperature of 0.07.
"""

from typing import Annotated

import numpy as np

from dmlstudy.evaluate.answers.answer import Answer

# Similarities closer than this tie; ties go to the smaller image id.
DECIMALS = 9
PAIRS = 10_000_000


class WeightedNeighbours(Answer):
    """A score is the sum of the votes for the class, relative to that of an equal image; 0 without one."""

    def __init__(self, k, temperature):
        super().__init__()
        self.k, self.temperature = k, temperature

    def _refit(self):
        pass

    def _add(self, before):
        pass

    def _prepare(self, queries):
        return self._nearest(queries, 0), len(self.features)

    def _nearest(self, queries, first):
        """(similarities, image ids, class ids), each (m, up to k), of photographs from ``first`` on."""
        features = self.features[first:].astype(float)
        step = max(1, PAIRS // len(features))
        found = []
        for start in range(0, len(queries), step):
            similarities = queries[start : start + step].astype(float) @ features.T
            found.append(self._best(similarities, self.image_ids[first:], self.class_ids[first:]))
        return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))

    def _kept_of(self, kept, rows):
        nearest, covered = kept
        return tuple(one[rows] for one in nearest), covered

    def _best(self, similarities, ids, classes):
        """The k largest similarities of each row, ties by id; ``ids`` and ``classes``: (n,) or (m, n)."""
        rounded = -np.round(similarities, DECIMALS)
        ids, classes = (np.broadcast_to(one, rounded.shape) for one in (ids, classes))
        if rounded.shape[1] > self.k:
            # All that reach the k-th similarity: with ties there may be more than k.
            limit = np.partition(rounded, self.k - 1, axis=1)[:, self.k - 1]
            width = int((rounded <= limit[:, None]).sum(axis=1).max())
            chosen = np.argpartition(rounded, width - 1, axis=1)[:, :width]
            rounded, ids, classes = (
                np.take_along_axis(one, chosen, 1) for one in (rounded, ids, classes)
            )
        order = np.lexsort((ids, rounded), axis=1)[:, : self.k]
        rounded, ids, classes = (
            np.take_along_axis(one, order, 1) for one in (rounded, ids, classes)
        )
        return -rounded, ids, classes

    def _scores(self, queries, kept):
        nearest, covered = kept
        if covered < len(self.features):
            both = zip(nearest, self._nearest(queries, covered), strict=True)
            nearest = self._best(*(np.concatenate(pair, axis=1) for pair in both))
        similarities, _, classes = nearest
        votes = np.exp((similarities - 1) / self.temperature)
        result = np.zeros((len(queries), len(self.classes)))
        rows = np.arange(len(queries))
        for column in range(votes.shape[1]):
            columns = np.searchsorted(self.classes, classes[:, column])
            result[rows, columns] += votes[:, column]
        return result


def build(
    *,
    k: Annotated[int, ">= 1, <= 1000000", "number of neighbours that vote"] = 20,
    temperature: Annotated[float, "> 0, <= 1000", "temperature of the weights"] = 0.07,
):
    """DINO's weighted k-NN."""
    return WeightedNeighbours(k, temperature)
