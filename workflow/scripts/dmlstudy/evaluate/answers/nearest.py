"""The class of the nearest gallery image."""

import numpy as np

from dmlstudy.evaluate.answers.answer import Answer
from dmlstudy.evaluate.search import merge_neighbours, nearest_neighbours

# Similarities that are computed at a time: some hundred megabytes.
PAIRS = 30_000_000


class Nearest(Answer):
    """A score is the similarity (cosine) to the nearest image of the class.

    The best score and its class are exactly those of `search.nearest_neighbours`, ties included.
    """

    def _refit(self):
        pass

    def _add(self, before):
        pass

    def _prepare(self, queries):
        return self._found(queries, 0), len(self.features)

    def _found(self, queries, first):
        """Of photographs from row ``first`` on: (classes, scores (m, c), nearest): see `_scores`."""
        features, class_ids = self.features[first:], self.class_ids[first:]
        order = np.argsort(class_ids, kind="stable")
        classes, starts = np.unique(class_ids[order], return_index=True)
        ordered = features[order]
        scores = np.empty((len(queries), len(classes)))
        step = max(1, PAIRS // len(ordered))
        for start in range(0, len(queries), step):
            similarities = queries[start : start + step] @ ordered.T
            scores[start : start + step] = np.maximum.reduceat(similarities, starts, axis=1)
        ids = self.image_ids[first:]
        similarities, rows = nearest_neighbours(queries, features, ids=ids)
        return classes, scores, (similarities, ids[rows])

    def _scores(self, queries, kept):
        (classes, scores, nearest), covered = kept
        result = np.full((len(queries), len(self.classes)), -np.inf)
        columns = np.searchsorted(self.classes, classes)
        result[:, columns] = scores
        if covered < len(self.features):
            classes, scores, others = self._found(queries, covered)
            columns = np.searchsorted(self.classes, classes)
            result[:, columns] = np.maximum(result[:, columns], scores)
            nearest = merge_neighbours(nearest, others, 1)
        # Scores are rounded to float32; the nearest image is exact. Nothing may stand above it.
        best, ids = (one[:, 0] for one in nearest)
        result = np.minimum(result, np.nextafter(best, -np.inf)[:, None])
        by_id = np.argsort(self.image_ids)
        rows = by_id[np.searchsorted(self.image_ids, ids, sorter=by_id)]
        columns = np.searchsorted(self.classes, self.class_ids[rows])
        result[np.arange(len(result)), columns] = best
        return result


def build():
    """The nearest neighbour, as everywhere in the study."""
    return Nearest()
