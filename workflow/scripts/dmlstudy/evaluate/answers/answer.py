"""A way of answering: from the features of a gallery and their classes to a class for each query.

Each way is a module here with a function ``build``, and a line in `registry.REGISTRY`. ``build`` returns an
`Answer`. NumPy and SciPy only.
"""

from dataclasses import dataclass

import numpy as np

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.core.files import StudyError

# Features must have length 1 up to this, or be zero.
LENGTH = 1e-3
# Scores that `Answer.answers` holds at a time: a few dozen megabytes.
SCORES = 2**22


@dataclass(frozen=True)
class Prepared:
    """Queries, and what of their scores does not change when photographs are added.

    ``queries``: float32 (m, d); ``kept``: what the way keeps; ``history``: see `Answer`.
    """

    queries: np.ndarray
    kept: object
    history: tuple


class Answer:
    """A way of answering. Nothing is trained: classes and photographs are added in closed form.

    ``fit``, then any number of ``add`` and ``remove``, then ``scores`` or ``answers``. Adding gives the same
    scores as fitting everything at once, to rounding. What a way chooses (`chosen`), it chooses in ``fit``,
    on photographs of base classes alone; adding and removing keep it. A `copy.copy` is independent:
    nothing is changed in place.

    Attributes after ``fit``: ``features`` float32 (n, d), ``class_ids`` (n,) and ``image_ids`` (n,) of all
    photographs in the order in which they came; ``base`` (b,): the classes that the model was trained on;
    ``classes`` (c,): all classes, ascending; ``chosen``: {parameter: value}. ``needs_weights``: whether the
    way needs the class weights of a trained loss.
    """

    needs_weights = False

    def __init__(self):
        self.features = self.class_ids = self.image_ids = self.base = self.classes = None
        self.chosen = {}
        # One entry for each change: queries that were prepared before the last ones stay valid.
        self._history = ()

    # What callers use.

    def fit(self, features, class_ids, *, base=None, image_ids=None, chosen=None, kept=None):
        """Start from photographs. Returns self.

        ``features``: float32 (n, d), L2-normalised; ``class_ids``: integers (n,); ``base``: ids of the
        classes that the model was trained on, by default all of ``class_ids``; ``image_ids``: integers
        (n,), all different, by which ties are decided; by default the order; ``chosen``: what an earlier
        fit chose, to be used again; ``kept``: the `keep` of a way with the same photographs.
        Raises StudyError for features that do not fit, are not finite or not L2-normalised, and without a
        photograph of a base class.
        """
        self.features, self.class_ids, self.image_ids = self._checked(
            features, class_ids, image_ids, first=0
        )
        self.classes = np.unique(self.class_ids)
        self.base = self.classes if base is None else np.unique(np.asarray(base, dtype=np.int64))
        if not np.isin(self.classes, self.base).any():
            raise StudyError(
                "none of the photographs is of a class that the model was trained on; a way of "
                "answering starts from those"
            )
        self.chosen = dict(chosen or {})
        self._history = (object(),)
        if kept:
            self._restore(kept)
        else:
            self._fit()
        return self

    def keep(self):
        """What costs more to compute than to read: {name: array}, empty for most ways.

        Belongs to the photographs and classes that the way has now.
        """
        self._check_fitted()
        return {}

    def add(self, features, class_ids, *, image_ids=None):
        """Add photographs of known or new classes; arguments and errors as in `fit`. Returns self."""
        self._check_fitted()
        first = int(self.image_ids.max()) + 1
        added = self._checked(features, class_ids, image_ids, first=first)
        if added[0].shape[1] != self.features.shape[1]:
            raise StudyError(
                f"features of {added[0].shape[1]} dimensions cannot be added to features of "
                f"{self.features.shape[1]}: they are of another model"
            )
        twice = np.intersect1d(added[2], self.image_ids)
        if len(twice):
            raise StudyError(f"photograph {twice[0]} has been added already")
        before = len(self.features)
        own = self.features, self.class_ids, self.image_ids
        self.features, self.class_ids, self.image_ids = map(
            np.concatenate, zip(own, added, strict=True)
        )
        self.classes = np.unique(self.class_ids)
        self._history = (*self._history, object())
        self._add(before)
        return self

    def remove(self, class_id):
        """Remove a class with all of its photographs. Returns self.

        Raises StudyError if the class is not there, or is the last base class that has photographs.
        """
        self._check_fitted()
        gone = self.class_ids == class_id
        if not gone.any():
            raise StudyError(f"class {class_id} cannot be removed: it has no photograph here")
        left = self.classes[self.classes != class_id]
        if not np.isin(left, self.base).any():
            raise StudyError(
                f"class {class_id} cannot be removed: it is the last class that the model was trained on"
            )
        self.features, self.class_ids, self.image_ids = (
            one[~gone] for one in (self.features, self.class_ids, self.image_ids)
        )
        self.classes = left
        self._history = (object(),)
        self._refit()
        return self

    def prepare(self, queries):
        """`Prepared` queries, for `scores` while photographs are only added. ``queries``: float32 (m, d)."""
        self._check_fitted()
        queries = self._checked_features(queries, "queries")
        if queries.shape[1] != self.features.shape[1]:
            raise StudyError(
                f"queries of {queries.shape[1]} dimensions cannot be compared with features of "
                f"{self.features.shape[1]}: they are of another model"
            )
        return Prepared(queries, self._prepare(queries), self._history)

    def scores(self, queries):
        """Score of each query for each class: float64 (m, c), columns as ``classes``; higher is better.

        ``queries``: float32 (m, d), L2-normalised, or `Prepared` ones.
        """
        queries = self._prepared(queries)
        return self._scores(queries.queries, queries.kept)

    def answers(self, queries):
        """(class ids (m,), their scores (m,)): the best class of each query; ties go to the smaller id."""
        queries = self._prepared(queries)
        count, step = len(queries.queries), max(1, SCORES // len(self.classes))
        found = [
            self._best_classes(queries.queries[rows], self._kept_of(queries.kept, rows))
            for rows in (slice(start, start + step) for start in range(0, count, step))
        ]
        return tuple(np.concatenate(one) for one in zip(*found, strict=True))

    # What ways fill in.

    def _fit(self):
        """Compute everything from the photographs, and choose what is to be chosen and is not in ``chosen``."""
        self._refit()

    def _restore(self, kept):
        """As `_fit`, from what `keep` returned. Only for ways that keep something."""
        raise NotImplementedError

    def _refit(self):
        """Compute everything from the photographs; what was chosen stays."""
        raise NotImplementedError

    def _add(self, before):
        """Take in the photographs from row ``before`` on; the attributes hold them already."""
        raise NotImplementedError

    def _prepare(self, queries):
        """What `Prepared.kept` holds."""
        return None

    def _scores(self, queries, kept):
        raise NotImplementedError

    def _kept_of(self, kept, rows):
        """What `_prepare` keeps of some queries; ``rows``: a slice."""
        return None if kept is None else kept[rows]

    def _best_classes(self, queries, kept):
        """`answers` of some queries."""
        scores = self._scores(queries, kept)
        best = scores.argmax(axis=1)
        return self.classes[best], scores[np.arange(len(scores)), best]

    # Helpers.

    def _prepared(self, queries):
        """`Prepared` queries of this way as it is now."""
        self._check_fitted()
        if not isinstance(queries, Prepared):
            return self.prepare(queries)
        if self._history[: len(queries.history)] != queries.history:
            return self.prepare(queries.queries)
        return queries

    def is_base(self):
        """Which of ``classes`` are base classes: booleans (c,)."""
        return np.isin(self.classes, self.base)

    def _check_fitted(self):
        if self.features is None:
            raise StudyError("this way of answering has no photographs yet; fit it first")

    def _checked(self, features, class_ids, image_ids, first):
        features = self._checked_features(features, "features")
        class_ids = np.asarray(class_ids, dtype=np.int64)
        if not len(features):
            raise StudyError("there are no photographs to learn classes from")
        if image_ids is None:
            image_ids = first + np.arange(len(features))
        image_ids = np.asarray(image_ids, dtype=np.int64)
        if class_ids.shape != (len(features),) or image_ids.shape != (len(features),):
            raise StudyError(
                f"{len(features)} features need as many class ids and image ids, not shapes "
                f"{class_ids.shape} and {image_ids.shape}"
            )
        if len(np.unique(image_ids)) < len(image_ids):
            raise StudyError("a photograph is given twice: image ids must differ")
        return features, class_ids, image_ids

    @staticmethod
    def _checked_features(features, name):
        features = np.ascontiguousarray(features, dtype=np.float32)
        if features.ndim != 2:
            raise StudyError(f"{name} of shape {features.shape}: must be (photographs, dimensions)")
        if not np.isfinite(features).all():
            raise StudyError(f"{name} hold values that are not finite")
        lengths = np.linalg.norm(features, axis=1)
        if ((np.abs(lengths - 1) > LENGTH) & (lengths > 0)).any():
            raise StudyError(f"{name} must be L2-normalised, as those in embeddings.npz are")
        return features


def held_out(class_ids, share=0.2, seed=42):
    """Which photographs are held out to choose a value: booleans (n,).

    ``share`` of each class, at random; a class of few keeps at least one, and nothing is held out of a
    class of one.
    """
    chosen = np.zeros(len(class_ids), dtype=bool)
    for class_id, rows in rows_by_class(class_ids):
        count = min(len(rows) - 1, max(1, round(share * len(rows))))
        order = np.random.default_rng([seed, int(class_id)]).permutation(len(rows))
        chosen[rows[order[:count]]] = True
    return chosen


@dataclass(frozen=True)
class ClassSums:
    """Sum of the vectors of each class: ``classes`` (c,) ascending, ``sums`` float64 (c, d), ``counts`` (c,)."""

    classes: np.ndarray
    sums: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, vectors, class_ids):
        classes, counts = np.unique(class_ids, return_counts=True)
        sums = np.empty((len(classes), vectors.shape[1]))
        for place, (_, rows) in enumerate(rows_by_class(class_ids)):
            sums[place] = vectors[rows].sum(axis=0, dtype=np.float64)
        return cls(classes, sums, counts)

    def plus(self, other):
        """The sums of the vectors of both."""
        classes = np.union1d(self.classes, other.classes)
        sums = np.zeros((len(classes), self.sums.shape[1]))
        counts = np.zeros(len(classes), dtype=np.int64)
        for one in (self, other):
            rows = np.searchsorted(classes, one.classes)
            sums[rows] += one.sums
            counts[rows] += one.counts
        return ClassSums(classes, sums, counts)

    @property
    def means(self):
        return self.sums / self.counts[:, None]


def normalised(vectors):
    """Vectors (n, d) at length 1, float64; a vector of length 0 stays."""
    vectors = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
