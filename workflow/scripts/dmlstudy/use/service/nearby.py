"""An index that is searched again and again, with few photographs at a time.

Candidates are found by a product of matrices; nothing of the index is copied. `gallery.found_nearest` then judges
them as it judges a whole index, so an answer is that of name_photos.py.
"""

import numpy as np

from dmlstudy.use.gallery import columns_of, found_nearest

# Similarities of float32 that differ by less may be in another order in double precision.
MARGIN = 1e-5


class Nearby:
    """A `Gallery` to search in. ``threads``: of the search."""

    def __init__(self, gallery, threads):
        self.gallery, self.threads = gallery, threads
        self.columns = columns_of(gallery.table)
        self.class_ids = self.columns["class_id"]
        self.digests = frozenset(gallery.digests.values())
        self._several = len(np.unique(self.class_ids)) > 1

    def classify(self, embeddings, neighbours, shown):
        """Answers for embeddings (n, dim): (a list of n answers, a list of n lists of neighbours to show).

        An answer is a row of `gallery.classify` as {column: value}, without its ways of answering. Neighbours are
        (row of the table of images as {column: value}, similarity), nearest first, at most ``shown`` each.
        """
        embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        part = self._candidates(embeddings, max(neighbours, shown))
        columns = {name: values[part] for name, values in self.columns.items()}
        found, similarities, rows = found_nearest(
            self.gallery.embeddings[part],
            columns,
            self.gallery.metadata,
            embeddings,
            neighbours,
            shown=shown,
            threads=self.threads,
        )
        answers = [
            dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)
        ]
        nearest = [
            [
                ({name: values[row] for name, values in columns.items()}, float(similarity))
                for row, similarity in zip(some[:shown], near[:shown], strict=True)
            ]
            for some, near in zip(rows, similarities, strict=True)
        ]
        return answers, nearest

    def _candidates(self, embeddings, count):
        """Rows of the index, ascending, that hold the nearest of each photograph and images of two classes.

        An array of rows, or a slice that takes all.
        """
        # Here, because a program that only enrols need not wait for torch.
        import torch

        # Of this thread only; torch computes with as many threads as the model does.
        products = torch.mm(
            torch.from_numpy(embeddings), torch.from_numpy(self.gallery.embeddings).T
        )
        total = products.shape[1]
        width = min(total, 4 * (count + 1))
        while width < total:
            similarities, rows = (one.numpy() for one in torch.topk(products, width, dim=1))
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
        return slice(None)
