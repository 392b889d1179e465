"""The class of the nearest gallery image."""

from functools import cached_property

import numpy as np

from dmlstudy.evaluate.answers.answer import Answer
from dmlstudy.evaluate.search import merge_neighbours, nearest_neighbours

# Similarities that are computed at a time: some hundred megabytes.
PAIRS = 30_000_000


class Found:
    """What queries find in some photographs, each thing once it is asked for.

    ``queries`` float32 (m, d); ``features`` float32 (n, d), ``class_ids`` (n,), ``ids`` (n,): the photographs.
    """

    def __init__(self, queries, features, class_ids, ids):
        self.queries, self.features, self.class_ids, self.ids = queries, features, class_ids, ids

    @cached_property
    def nearest(self):
        """(similarities, image ids) of the nearest photograph, both (m, 1)."""
        similarities, rows = nearest_neighbours(self.queries, self.features, ids=self.ids)
        return similarities, self.ids[rows]

    @cached_property
    def scores(self):
        """(classes (c,), similarity to the nearest photograph of each class: float64 (m, c))."""
        order = np.argsort(self.class_ids, kind="stable")
        classes, starts = np.unique(self.class_ids[order], return_index=True)
        ordered = self.features[order]
        scores = np.empty((len(self.queries), len(classes)))
        step = max(1, PAIRS // len(ordered))
        for start in range(0, len(self.queries), step):
            similarities = self.queries[start : start + step] @ ordered.T
            scores[start : start + step] = np.maximum.reduceat(similarities, starts, axis=1)
        return classes, scores


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
        """What queries find in the photographs from row ``first`` on."""
        photographs = self.features, self.class_ids, self.image_ids
        return Found(queries, *(one[first:] for one in photographs))

    def _all_found(self, queries, kept):
        """[`Found` in all photographs, in parts], and (similarities (m,), class ids (m,)) of the nearest."""
        prepared, covered = kept
        parts, nearest = [prepared], prepared.nearest
        if covered < len(self.features):
            parts.append(self._found(queries, covered))
            nearest = merge_neighbours(nearest, parts[1].nearest, 1)
        best, ids = (one[:, 0] for one in nearest)
        by_id = np.argsort(self.image_ids)
        rows = by_id[np.searchsorted(self.image_ids, ids, sorter=by_id)]
        return parts, best, self.class_ids[rows]

    def answers(self, queries):
        """As `Answer.answers`, from the nearest photographs alone."""
        queries = self._prepared(queries)
        _, best, class_ids = self._all_found(queries.queries, queries.kept)
        return class_ids, best

    def _scores(self, queries, kept):
        parts, best, class_ids = self._all_found(queries, kept)
        result = np.full((len(queries), len(self.classes)), -np.inf)
        for part in parts:
            classes, scores = part.scores
            columns = np.searchsorted(self.classes, classes)
            result[:, columns] = np.maximum(result[:, columns], scores)
        # Scores are rounded to float32; the nearest image is exact. Nothing may stand above it.
        result = np.minimum(result, np.nextafter(best, -np.inf)[:, None])
        result[np.arange(len(result)), np.searchsorted(self.classes, class_ids)] = best
        return result


def build():
    """The nearest neighbour, as everywhere in the study."""
    return Nearest()
