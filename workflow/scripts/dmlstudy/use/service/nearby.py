"""An index that is searched again and again: what does not depend on the photographs is made once.

Candidates are found in a FAISS index that is kept. `gallery.classify` then judges them as it judges a whole
index, so an answer is that of name_photos.py.
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
        import faiss

        self.gallery, self.threads = gallery, threads
        self.class_ids = gallery.table["class_id"].to_numpy()
        self._several = len(np.unique(self.class_ids)) > 1
        self._index = faiss.IndexFlatIP(gallery.embeddings.shape[1])
        self._index.add(np.ascontiguousarray(gallery.embeddings, dtype=np.float32))

    def classify(self, embeddings, neighbours, shown):
        """Answers for embeddings (n, dim): (table of `gallery.classify`, neighbours to show).

        The latter is a list of n lists of (row of the table of images, similarity), nearest first, at most
        ``shown`` each.
        """
        import faiss

        faiss.omp_set_num_threads(self.threads)
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
        table = part.table.to_dict("records")
        nearest = [
            [(table[row], float(value)) for row, value in zip(*pair, strict=True)]
            for pair in zip(rows, similarities, strict=True)
        ]
        return answers, nearest

    def _candidates(self, embeddings, count):
        """Rows of the index, ascending, that hold the nearest of each photograph and images of two classes."""
        total = self._index.ntotal
        width = min(total, 4 * (count + 1))
        while True:
            similarities, rows = self._index.search(embeddings, width)
            if width == total:
                return np.arange(total)
            # Complete: what is left out is clearly farther than the last that is needed.
            complete = similarities[:, min(count, width) - 1] - similarities[:, -1] > MARGIN
            if self._several:
                classes = self.class_ids[rows]
                other = classes != classes[:, :1]
                first = np.where(other.any(axis=1), other.argmax(axis=1), -1)
                second = np.take_along_axis(similarities, first[:, None], 1)[:, 0]
                complete &= (first > 0) & (second - similarities[:, -1] > MARGIN)
            if complete.all():
                return np.unique(rows)
            width = min(total, 2 * width)

    def _part(self, rows):
        """The gallery with some of its rows."""
        if len(rows) == len(self.gallery.table):
            return self.gallery
        return replace(
            self.gallery,
            embeddings=self.gallery.embeddings[rows],
            table=self.gallery.table.iloc[rows].reset_index(drop=True),
        )
