"""Linear discriminant analysis with a shrunk covariance.

The covariance within classes, shared by all classes, is shrunk towards a multiple of the identity (Friedman,
Regularized Discriminant Analysis, JASA 84, 1989). Differences between scores are those of scikit-learn's
``LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share)``, with ``priors: frequency`` to the letter.
"""

from typing import Annotated, Literal

import numpy as np
from scipy import linalg
from scipy.linalg.blas import dsyrk

from dmlstudy.evaluate.answers.answer import SCORES, Answer, ClassSums, held_out

# Shares of the identity to choose from; the one that is taken if no photograph can be held out.
SHARES = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
FALLBACK = 0.5


class Statistics:
    """Means and covariance of photographs: what discriminant analysis needs. Never changed in place."""

    def __init__(self, sums, products):
        self.sums, self.products = sums, products

    @classmethod
    def of(cls, features, class_ids):
        return cls(ClassSums.of(features, class_ids), gram(features))

    def plus(self, other):
        return Statistics(self.sums.plus(other.sums), self.products + other.products)

    def discriminant(self, shrinkage, priors):
        """(weights (d, c), constants (c,)) of the score of each class."""
        counts, means = self.sums.counts, self.sums.means
        count = counts.sum()
        covariance = (self.products - (means.T * counts) @ means) / count
        mean = np.trace(covariance) / len(covariance)
        # Rounding leaves this much of the squared length of features, which is 1.
        if mean * len(covariance) <= 1e-12:
            # No class varies, as when each has one photograph: all directions count alike.
            covariance, mean, shrinkage = np.zeros_like(covariance), 1.0, 1.0
        covariance *= 1 - shrinkage
        covariance.flat[:: len(covariance) + 1] += shrinkage * mean
        centre = self.sums.sums.sum(axis=0) / count
        both = np.vstack([means, centre])
        try:
            factor = linalg.cho_factor(covariance, overwrite_a=False, check_finite=False)
            solved = linalg.cho_solve(factor, both.T, check_finite=False)
        except linalg.LinAlgError:
            # Without shrinkage, and with more dimensions than photographs: as scikit-learn.
            solved = linalg.lstsq(covariance, both.T)[0]
        constants = -0.5 * (both * solved.T).sum(axis=1)
        weights, constants = solved[:, :-1] - solved[:, -1:], constants[:-1] - constants[-1]
        if priors == "frequency":
            constants = constants + np.log(counts / count)
        return weights, constants


def _best_columns(features, weights, constants):
    """The column of the highest score of each row (n,), some rows at a time."""
    step = max(1, SCORES // len(constants))
    return np.concatenate(
        [
            (features[start : start + step] @ weights + constants).argmax(axis=1)
            for start in range(0, len(features), step)
        ]
    )


def gram(features):
    """The sum of x xᵀ over the rows x of ``features`` (n, d): float64 (d, d)."""
    upper = np.triu(dsyrk(1.0, features.astype(np.float64).T))
    return upper + np.triu(upper, 1).T


class Discriminant(Answer):
    """A score is the log of the density of the query in the class, plus the log prior of the class.

    The density is relative to that of a class of the same covariance around the mean of all photographs.
    This changes no answer, and makes scores of several queries comparable, so that they can reject (the
    idea of the relative Mahalanobis distance, Ren et al., arXiv 2106.09022, 2021).
    """

    def __init__(self, shrinkage, priors):
        super().__init__()
        self.shrinkage, self.priors = shrinkage, priors

    def _fit(self):
        if self.shrinkage is not None:
            self.chosen = {"shrinkage": self.shrinkage}
        if self.chosen:
            self._refit()
            return
        base = np.isin(self.class_ids, self.base)
        held = np.zeros(len(base), dtype=bool)
        held[base] = held_out(self.class_ids[base])
        trained = base & ~held
        some = Statistics.of(self.features[trained], self.class_ids[trained])
        self.chosen = {"shrinkage": self._choose(some, held) if held.any() else FALLBACK}
        rest = ~trained
        if rest.any():
            some = some.plus(Statistics.of(self.features[rest], self.class_ids[rest]))
        self._take(some)

    def _choose(self, some, held):
        """The shrinkage whose discriminant of some base photographs names most of those held out."""
        scored = []
        for share in SHARES:
            weights, constants = some.discriminant(share, self.priors)
            named = some.sums.classes[_best_columns(self.features[held], weights, constants)]
            scored.append((int((named == self.class_ids[held]).sum()), share))
        # The larger of equal ones.
        return max(scored)[1]

    def _refit(self):
        self._take(Statistics.of(self.features, self.class_ids))

    def _take(self, statistics):
        self.statistics, self._discriminant = statistics, None

    def _add(self, before):
        added = Statistics.of(self.features[before:], self.class_ids[before:])
        self._take(self.statistics.plus(added))

    def _scores(self, queries, kept):
        if self._discriminant is None:
            self._discriminant = self.statistics.discriminant(self.chosen["shrinkage"], self.priors)
        weights, constants = self._discriminant
        return queries.astype(float) @ weights + constants


def build(
    *,
    shrinkage: Annotated[
        float | None,
        ">= 0, <= 1",
        "share of the identity in the covariance; null to choose it on base photographs held out",
    ] = None,
    priors: Annotated[
        Literal["equal", "frequency"],
        "",
        "prior of a class: equal for all, or its share of the photographs",
    ] = "equal",
):
    """Linear discriminant analysis with a shrunk covariance."""
    return Discriminant(shrinkage, priors)
