"""What a score looks at: images, the gallery, and what is found in it. NumPy only."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

# Images that are compared with the gallery at a time: some dozen megabytes for CUB.
BATCH = 1024


@dataclass(frozen=True, eq=False)
class Case:
    """Images to be scored, and the gallery of enrolled classes.

    ``images`` (n, dim), ``gallery`` (m, dim): L2-normalised float32; ``gallery_classes`` (m,): class ids.
    ``own`` (n,): the gallery row of each image, which is left out for it, or None if no image is in the
    gallery. Raises ValueError for an empty gallery.
    """

    images: np.ndarray
    gallery: np.ndarray
    gallery_classes: np.ndarray
    own: np.ndarray | None = None

    def __post_init__(self):
        if not len(self.gallery):
            raise ValueError("the gallery is empty")

    @cached_property
    def classes(self):
        """The class ids of the gallery (c,), ascending."""
        return np.unique(self.gallery_classes)

    @cached_property
    def class_similarities(self):
        """Cosine similarity of each image to the nearest image of each class: float64 (n, c).

        It is -1, the least that there is, for a class without another image than the image itself.
        Computed in double precision, so that equal vectors tie.
        """
        order = np.argsort(self.gallery_classes, kind="stable")
        place = np.argsort(order)
        starts = np.searchsorted(self.gallery_classes[order], self.classes)
        gallery = self.gallery[order].astype(np.float64).T
        found = np.empty((len(self.images), len(self.classes)))
        for start in range(0, len(self.images), BATCH):
            rows = slice(start, start + BATCH)
            similarities = self.images[rows].astype(np.float64) @ gallery
            if self.own is not None:
                similarities[np.arange(len(similarities)), place[self.own[rows]]] = -1
            found[rows] = np.maximum.reduceat(similarities, starts, axis=1)
        return found

    @cached_property
    def two_nearest(self):
        """Similarity to the nearest class and to the next one: (n,), (n,); -1 if there is no other."""
        values = self.class_similarities
        if values.shape[1] == 1:
            return values[:, 0], np.full(len(values), -1.0)
        top = np.partition(values, -2, axis=1)
        return top[:, -1], top[:, -2]

    def only(self, chosen):
        """The same images with the gallery of some classes alone; ``chosen``: boolean mask over class ids.

        The similarities to a class do not depend on other classes, so they are not computed again.
        Raises ValueError if images are left out, since their rows of the gallery would change.
        """
        if self.own is not None:
            raise ValueError("images of the gallery cannot be compared with a part of it")
        rows = chosen[self.gallery_classes]
        part = Case(self.images, self.gallery[rows], self.gallery_classes[rows])
        part.__dict__["class_similarities"] = self.class_similarities[:, chosen[self.classes]]
        return part
