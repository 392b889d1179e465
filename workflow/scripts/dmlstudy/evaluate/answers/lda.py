"""Linear discriminant analysis with a shrunk covariance.

The covariance within classes, shared by all classes, is shrunk towards a multiple of the identity, by a
given share or by Ledoit and Wolf's (Journal of Multivariate Analysis 88, 2004). With a given share and
``priors: frequency``, scores are those of scikit-learn's
``LinearDiscriminantAnalysis(solver="lsqr", shrinkage=share)``.
"""

from typing import Annotated, Literal

import numpy as np
from scipy import linalg
from scipy.linalg.blas import dsyrk

from dmlstudy.evaluate.answers.answer import Answer, ClassSums


def ledoit_wolf(scatter, fourth, count):
    """Ledoit and Wolf's shrinkage of a covariance matrix: a number from 0 to 1.

    ``scatter`` (d, d): the sum of x xᵀ over ``count`` centred vectors x; ``fourth``: the sum of |x|⁴.
    As `sklearn.covariance.ledoit_wolf_shrinkage` with ``assume_centered``, but from sums.
    """
    dim = len(scatter)
    mean = np.trace(scatter) / count / dim
    squares = np.square(scatter).sum() / count**2
    beta = (fourth / count - squares) / (dim * count)
    delta = squares / dim - mean**2
    beta = min(beta, delta)
    return float(beta / delta) if beta > 0 else 0.0


def gram(vectors):
    """The sum of x xᵀ over the rows x of ``vectors`` (n, d): float64 (d, d)."""
    upper = dsyrk(1.0, np.asarray(vectors, dtype=np.float64).T)
    return np.triu(upper) + np.triu(upper, 1).T


class Discriminant(Answer):
    """A score is log density of the query, up to a constant of all classes, plus log prior.

    It is minus half the squared Mahalanobis distance to the class's mean. The term that all classes of a
    query share changes no answer, but makes scores of several queries comparable.
    """

    def __init__(self, shrinkage, priors):
        super().__init__()
        self.shrinkage, self.priors = shrinkage, priors

    def _refit(self):
        self.sums = ClassSums.of(self.features, self.class_ids)
        self.products = gram(self.features)
        self.fourths = dict(zip(self.classes.tolist(), map(self._fourth, self.classes), strict=True))
        self._solution = None

    def _add(self, before):
        added, class_ids = self.features[before:], self.class_ids[before:]
        self.sums = self.sums.plus(ClassSums.of(added, class_ids))
        self.products = self.products + gram(added)
        self.fourths = self.fourths | {
            int(one): self._fourth(one) for one in np.unique(class_ids)
        }
        self._solution = None

    def _fourth(self, class_id):
        """The sum of |x − mean|⁴ over the photographs of a class."""
        own = self.features[self.class_ids == class_id].astype(float)
        return float((np.square(own - own.mean(axis=0)).sum(axis=1) ** 2).sum())

    def covariance(self):
        """(shrunk covariance (d, d), shrinkage)."""
        means = self.sums.means
        scatter = self.products - (means.T * self.sums.counts) @ means
        count = len(self.features)
        shrinkage = self.shrinkage
        if shrinkage is None:
            shrinkage = ledoit_wolf(scatter, sum(self.fourths.values()), count)
        covariance = (1 - shrinkage) / count * scatter
        covariance.flat[:: len(covariance) + 1] += shrinkage * np.trace(scatter) / count / len(scatter)
        return covariance, shrinkage

    def _solved(self):
        """(precision times means, precision as a function)."""
        covariance, shrinkage = self.covariance()
        self.chosen = {"shrinkage": shrinkage}
        if np.trace(covariance) <= len(self.features) * np.finfo(np.float64).eps:
            # No class varies, as when each has one photograph: all directions count alike.
            covariance = np.eye(len(covariance))
        try:
            factor = linalg.cho_factor(covariance, check_finite=False)
            return lambda values: linalg.cho_solve(factor, values, check_finite=False)
        except linalg.LinAlgError:
            # Without shrinkage, and with more dimensions than photographs.
            return lambda values: linalg.lstsq(covariance, values)[0]

    def _scores(self, queries, kept):
        if self._solution is None:
            solve, means = self._solved(), self.sums.means
            weights = solve(means.T)
            constants = -0.5 * (means * weights.T).sum(axis=1)
            if self.priors == "frequency":
                constants = constants + np.log(self.sums.counts / len(self.features))
            self._solution = solve, weights, constants
        solve, weights, constants = self._solution
        queries = queries.astype(float)
        return queries @ weights + constants


def build(
    *,
    shrinkage: Annotated[
        float | None, ">= 0, <= 1", "share of the identity in the covariance; null for Ledoit and Wolf's"
    ] = None,
    priors: Annotated[
        Literal["equal", "frequency"],
        "prior of a class: equal for all, or its share of the photographs",
    ] = "equal",
):
    """Linear discriminant analysis with a shrunk covariance."""
    return Discriminant(shrinkage, priors)
