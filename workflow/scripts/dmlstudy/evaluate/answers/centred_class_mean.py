"""Class means of centred features: SimpleShot's CL2N (Wang et al., arXiv 1911.04623, 2019).

The mean of the training features of base classes is subtracted from every feature, and the result is
L2-normalised again. The answer is the class with the nearest mean (Euclidean).
"""

import numpy as np

from dmlstudy.evaluate.answers.answer import Answer, ClassSums, normalised


class CentredClassMean(Answer):
    """A score is minus the squared distance of the transformed query to the class's mean."""

    def _refit(self):
        own = np.isin(self.class_ids, self.base)
        self.centre = self.features[own].mean(axis=0, dtype=np.float64)
        self.sums = ClassSums.of(self.transformed(self.features), self.class_ids)

    def _add(self, before):
        if np.isin(self.class_ids[before:], self.base).any():
            # The centre moves, and all features with it.
            self._refit()
            return
        added = self.transformed(self.features[before:])
        self.sums = self.sums.plus(ClassSums.of(added, self.class_ids[before:]))

    def transformed(self, features):
        """Centred and L2-normalised features, float64."""
        return normalised(features - self.centre)

    def _scores(self, queries, kept):
        queries, means = self.transformed(queries), self.sums.means
        squares = (queries**2).sum(axis=1)[:, None] + (means**2).sum(axis=1)
        return 2 * queries @ means.T - squares


def build():
    """SimpleShot with CL2N features."""
    return CentredClassMean()
