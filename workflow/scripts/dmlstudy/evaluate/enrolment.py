"""How many images of an unseen class must be enrolled to recognise it? Nothing is trained."""

from functools import cached_property

import numpy as np
import pandas as pd

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.metrics import harmonic_mean, majority_vote, precision_at_1
from dmlstudy.evaluate.search import merge_neighbours, nearest_neighbours

NEAREST, CLASS_MEAN = "nearest_neighbour", "class_mean"
ALL = "all"
# With more unseen images than this, they are ranked once, rather than searched for each draw.
RANKED_ABOVE = 2048
# How many times as many neighbours as a draw needs are ranked: enough for draws of a quarter or more.
RANKED_TIMES = 8


class Enrolment:
    """A gallery of the seen classes, to which images of unseen classes are added.

    ``embeddings``: as for `retrieval.answer_queries`; ``class_ids``: class of each image, indexed
    by image id; ``seen``: boolean mask over classes; ``votes``: numbers of neighbours that vote;
    ``nearest``: (similarities, image ids), both (queries, k), of the nearest images of the whole gallery, if
    these are known: most of the nearest images of seen classes are among them.
    """

    def __init__(self, embeddings, class_ids, seen, *, votes=(), nearest=None, threads=None):
        self.embeddings, self.class_ids, self.seen = embeddings, class_ids, seen
        self.votes = [n for n in votes if n > 1]
        self.threads = threads
        self.queries = embeddings["query_embeddings"]
        self.query_classes = class_ids[embeddings["query_image_ids"]]
        self.gallery = embeddings["gallery_embeddings"]
        self.gallery_ids = embeddings["gallery_image_ids"]
        self.gallery_classes = class_ids[self.gallery_ids]
        self.seen_rows = np.flatnonzero(seen[self.gallery_classes])
        self.unseen_rows = np.flatnonzero(~seen[self.gallery_classes])
        self.width = max([1, *self.votes])
        if nearest is None:
            self.neighbours = self._search(self.seen_rows)
        else:
            self.neighbours = self._among(nearest, self.seen_rows)
        self.mean_neighbours = self._search_means(self.seen_rows)

    def _search(self, rows, width=None, queries=slice(None)):
        """(similarities, image ids) of the nearest of gallery ``rows``, both (queries, k)."""
        ids = self.gallery_ids[rows]
        similarities, found = nearest_neighbours(
            self.queries[queries],
            self.gallery[rows],
            width or self.width,
            ids=ids,
            threads=self.threads,
        )
        return similarities, ids[found]

    @cached_property
    def ranking(self):
        """(similarities, image ids) of the nearest of all unseen images, more than a draw needs."""
        return self._search(self.unseen_rows, width=RANKED_TIMES * self.width)

    def _search_drawn(self, rows):
        """As `_search`, for some of the unseen images. Uses `ranking` where a draw is large enough."""
        unseen = len(self.unseen_rows)
        if unseen <= RANKED_ABOVE or len(rows) * RANKED_TIMES < 2 * unseen:
            return self._search(rows)
        return self._among(self.ranking, rows)

    def _among(self, ranking, rows):
        """As `_search`, from the nearest of more images; queries of which too few are left are searched."""
        similarities, ids = ranking
        width = min(self.width, len(rows))
        if ids.shape[1] < width:
            return self._search(rows)
        chosen = np.zeros(len(self.class_ids), dtype=bool)
        chosen[self.gallery_ids[rows]] = True
        among = chosen[ids]
        short = among.sum(axis=1) < width
        # The nearest that are chosen, in the order of the ranking.
        places = np.argsort(~among, axis=1, kind="stable")[:, :width]
        found = np.take_along_axis(similarities, places, 1), np.take_along_axis(ids, places, 1)
        if short.any():
            for one, searched in zip(found, self._search(rows, queries=short), strict=True):
                one[short] = searched
        return found

    def _means(self, rows):
        """(class ids, means): the normalised mean embedding of each class over gallery ``rows``."""
        rows = rows[np.argsort(self.gallery_classes[rows], kind="stable")]
        classes, starts = np.unique(self.gallery_classes[rows], return_index=True)
        sums = np.add.reduceat(self.gallery[rows].astype(np.float64), starts, axis=0)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        return classes, (sums / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def _search_means(self, rows):
        """(similarities, class ids) of the nearest class mean of gallery ``rows``, both (queries, 1)."""
        classes, means = self._means(rows)
        similarities, found = nearest_neighbours(
            self.queries, means, ids=classes, threads=self.threads
        )
        return similarities, classes[found]

    def answers(self, rows):
        """{method: answered class ids (queries,)} after gallery ``rows`` have been enrolled."""
        ids, nearest = self.neighbours[1], self.mean_neighbours[1]
        if len(rows):
            ids = merge_neighbours(self.neighbours, self._search_drawn(rows), self.width)[1]
            # The means of seen classes stay the same, so they are searched once.
            nearest = merge_neighbours(self.mean_neighbours, self._search_means(rows), 1)[1]
        neighbours = self.class_ids[ids]
        answers = {NEAREST: neighbours[:, 0]}
        for n in self.votes:
            answers[f"majority_vote_{n}"] = majority_vote(neighbours, n)[0]
        answers[CLASS_MEAN] = nearest[:, 0]
        return answers

    def curve(self, sizes, draws, seed, *, bootstrap_draws=10_000):
        """Accuracy by number of enrolled images per class and by method, as a table.

        ``sizes``: numbers of images; each is drawn ``draws`` times. Two sizes are added: 0 and
        ``all``. Columns: images_per_class, draws, method; unseen_accuracy (micro, mean over draws)
        with its 95 % interval low, high (resampled over classes, then queries); spread (standard
        deviation over draws); seen_accuracy, harmonic_mean, unseen_queries, unseen_classes.
        """
        known = self.seen[self.query_classes]
        rows, hits = [], []
        for size, drawn in plan(self.gallery_classes, self.unseen_rows, sizes, draws, seed):
            answers = [self.answers(enrolled) for enrolled in drawn]
            for method in answers[0]:
                right = np.array([one[method] == self.query_classes for one in answers])
                hits.append(right[:, ~known].mean(axis=0))
                row = {"images_per_class": size, "draws": len(drawn), "method": method}
                rows.append(row | accuracies(right, known, self.seen))
        add_intervals(rows, hits, self.query_classes[~known], draws=bootstrap_draws, seed=seed)
        return pd.DataFrame(rows)


def draw_images(gallery_classes, unseen_rows, images, seed):
    """Gallery rows of ``images`` images of each unseen class, or of all that it has if fewer.

    ``gallery_classes``: class of each gallery row; ``unseen_rows``: rows of unseen classes. For one
    seed, a smaller number draws a subset of what a larger number draws.
    """
    chosen = [np.empty(0, dtype=np.int64)]
    for class_id, own in rows_by_class(gallery_classes[unseen_rows]):
        order = np.random.default_rng([*seed, int(class_id)]).permutation(len(own))
        chosen.append(np.sort(unseen_rows[own[order[:images]]]))
    return np.concatenate(chosen)


def plan(gallery_classes, unseen_rows, sizes, draws, seed):
    """What is enrolled: [(images per class, gallery rows of each draw)], from 0 images to `ALL`.

    ``sizes``: numbers of images; each is drawn ``draws`` times. For the others, see `draw_images`.
    """
    most = np.bincount(gallery_classes[unseen_rows], minlength=1).max()
    planned = [(0, [np.empty(0, dtype=np.int64)])]
    for size in sorted(set(sizes)):
        if 0 < size < most:
            drawn = [
                draw_images(gallery_classes, unseen_rows, size, (seed, draw))
                for draw in range(draws)
            ]
            planned.append((size, drawn))
    return [*planned, (ALL, [unseen_rows])]


def accuracies(right, known, seen):
    """Columns of one point of a curve: unseen_accuracy, low, high (empty), spread, and the others.

    ``right``: booleans (draws, queries); ``known``: which queries are of seen classes; ``seen``:
    boolean mask over classes.
    """
    unseen = right[:, ~known].mean(axis=1) if not known.all() else np.array([np.nan])
    of_seen = precision_at_1(right[:, known].ravel())
    return {
        "unseen_accuracy": float(unseen.mean()),
        "low": np.nan,
        "high": np.nan,
        "spread": float(unseen.std(ddof=1)) if len(unseen) > 1 else np.nan,
        "seen_accuracy": of_seen,
        "harmonic_mean": float(harmonic_mean(of_seen, unseen.mean())),
        "unseen_queries": int((~known).sum()),
        "unseen_classes": int((~seen).sum()),
    }


def add_intervals(rows, hits, classes, *, draws, seed):
    """Fill low and high of the points of a curve. ``hits``: of each, the mean hits (queries,).

    ``classes`` (queries,): class of each query of an unseen class; nothing is filled without any.
    """
    if not len(classes):
        return
    samples = bootstrap(np.column_stack(hits), classes=classes, draws=draws, seed=seed)
    for row, column in zip(rows, samples.T, strict=True):
        row["low"], row["high"] = percentile_interval(column)
