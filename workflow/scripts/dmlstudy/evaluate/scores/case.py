"""What a score looks at: images, the enrolled gallery, and what is found in it. NumPy only."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Enrolled:
    """The gallery of enrolled classes: ``vectors`` (m, dim), L2-normalised float32; ``class_ids`` (m,).

    Raises ValueError for an empty gallery.
    """

    vectors: np.ndarray
    class_ids: np.ndarray

    def __post_init__(self):
        if not len(self.vectors):
            raise ValueError("the gallery is empty")

    @cached_property
    def classes(self):
        """The class ids (c,), ascending."""
        return np.unique(self.class_ids)

    @cached_property
    def positions(self):
        """The place of each image's class among `classes` (m,)."""
        return np.searchsorted(self.classes, self.class_ids)

    @cached_property
    def by_class(self):
        """(vectors (dim, m) in double precision, ordered by class; the first column of each class (c,); the
        column of each image (m,))."""
        order = np.argsort(self.class_ids, kind="stable")
        starts = np.searchsorted(self.class_ids[order], self.classes)
        return self.vectors[order].astype(np.float64).T, starts, np.argsort(order)

    @cached_property
    def memory(self):
        """What a score keeps about the gallery between cases: {score: anything}."""
        return {}


@dataclass(frozen=True, eq=False)
class Case:
    """Some images to be scored.

    ``images`` (n, dim): L2-normalised float32; ``enrolled``: an `Enrolled`; ``own`` (n,): the gallery row of
    each image, which is left out for it, or None if no image is in the gallery.
    """

    images: np.ndarray
    enrolled: Enrolled
    own: np.ndarray | None = None

    @cached_property
    def class_similarities(self):
        """Cosine similarity of each image to the nearest image of each class: float64 (n, c).

        It is -1, the least that there is, for a class without another image than the image itself.
        Computed in double precision, so that equal vectors tie.
        """
        vectors, starts, columns = self.enrolled.by_class
        similarities = self.images.astype(np.float64) @ vectors
        if self.own is not None:
            similarities[np.arange(len(similarities)), columns[self.own]] = -1
        return np.maximum.reduceat(similarities, starts, axis=1)

    @cached_property
    def nearest_classes(self):
        """Class ids (n,) of the nearest images; ties go to the smallest."""
        return self.enrolled.classes[self.class_similarities.argmax(axis=1)]

    @cached_property
    def two_nearest(self):
        """Similarity to the nearest class and to the next one: (n,), (n,); -1 if there is no other."""
        values = self.class_similarities
        if values.shape[1] == 1:
            return values[:, 0], np.full(len(values), -1.0)
        top = np.partition(values, -2, axis=1)
        # Views would keep the similarities to all classes until all images are scored.
        return top[:, -1].copy(), top[:, -2].copy()
