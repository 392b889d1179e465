"""An index that is searched again and again, with few photographs at a time.

Candidates are found by a product of matrices; nothing of the index is copied. `gallery.classify` then judges them as
it judges a whole index, so an answer is that of name_photos.py.
"""

from dataclasses import replace

import numpy as np

from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.use.gallery import classify

# Similarities of float32 that differ by less may be in another order in double precision.
MARGIN = 1e-5


class Nearby:
    """A `Gallery` to search in. ``threads``: of the search."""

    def __init__(self, gallery, threads):
        self.gallery, self.threads = gallery, threads
        self.class_ids = gallery.table["class_id"].to_numpy()
        self.digests = frozenset(gallery.digests.values())
        self._several = len(np.unique(self.class_ids)) > 1

    def classify(self, embeddings, neighbours, shown):
        """Answers for embeddings (n, dim): (table of `gallery.classify`, neighbours to show).

        The latter is a list of n lists of (row of the table of images, similarity), nearest first, at most
        ``shown`` each.
        """
        embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        part = self._part(self._candidates(embeddings, max(neighbours, shown)))
        answers = classify(part, embeddings, neighbours, threads=self.threads)
        similarities, rows = nearest_neighbours(
            embeddings,
            part.embeddings,
            shown,
            ids=part.table["image_id"].to_numpy(),
            threads=self.threads,
        )
        table = iter(part.table.iloc[rows.ravel()].to_dict("records"))
        nearest = [[(next(table), float(value)) for value in values] for values in similarities]
        return answers, nearest

    def _candidates(self, embeddings, count):
        """Rows of the index, ascending, that hold the nearest of each photograph and images of two classes."""
        # Here, because a program that only enrols need not wait for torch.
        import torch

        # Of this thread only; torch computes with as many threads as the model does.
        products = torch.mm(
            torch.from_numpy(self.gallery.embeddings), torch.from_numpy(embeddings).T
        )
        total = len(products)
        width = min(total, 4 * (count + 1))
        while width < total:
            similarities, rows = (one.T.numpy() for one in torch.topk(products, width, dim=0))
            # Complete: what is left out is clearly farther than the last that is needed.
            complete = similarities[:, count - 1] - similarities[:, -1] > MARGIN
            if self._several:
                classes = self.class_ids[rows]
                other = classes != classes[:, :1]
                # The first of another class; without one it is the nearest image itself.
                second = np.take_along_axis(similarities, other.argmax(axis=1)[:, None], 1)[:, 0]
                complete &= other.any(axis=1) & (second - similarities[:, -1] > MARGIN)
            if complete.all():
                return np.unique(rows)
            width = min(total, 2 * width)
        return np.arange(total)

    def _part(self, rows):
        """The gallery with some of its rows."""
        if len(rows) == len(self.gallery.table):
            return self.gallery
        return replace(
            self.gallery,
            embeddings=self.gallery.embeddings[rows],
            table=self.gallery.table.iloc[rows].reset_index(drop=True),
        )
