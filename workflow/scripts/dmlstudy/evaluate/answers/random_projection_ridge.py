"""Ridge regression on random ReLU features: RanPAC (McDonnell et al., NeurIPS 2023).

Features are projected at random, a ReLU follows, and one-hot classes are regressed on the result, without
an intercept, as scikit-learn's ``Ridge(alpha=ridge, fit_intercept=False)`` does. Photographs and classes are
added exactly: the Cholesky factor of Gram matrix plus ridge stays, and the Woodbury identity takes in what
was added since.
"""

from typing import Annotated

import numpy as np
from scipy import linalg
from scipy.linalg import lapack
from scipy.linalg.blas import dsyrk

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.evaluate.answers.answer import Answer, held_out

# Ridges to choose from, as shares of the mean diagonal element of the Gram matrix; the one that is taken if
# no photograph can be held out.
SHARES = (1e-4, 1e-3, 1e-2, 10**-1.5, 1e-1, 10**-0.5, 1, 10)
FALLBACK = 0.1
# More random features than this per photograph of a base class add cost and no accuracy.
PER_PHOTOGRAPH = 2
ROWS = 1024


class RandomProjectionRidge(Answer):
    """A score is the regression's value for the class."""

    def __init__(self, width, ridge, seed):
        super().__init__()
        self.width, self.ridge, self.seed = width, ridge, seed

    def _fit(self):
        base = np.isin(self.class_ids, self.base)
        given = bool(self.chosen) or self.ridge is not None
        if not self.chosen:
            width = min(self.width, PER_PHOTOGRAPH * int(base.sum()))
            self.chosen = {"ridge": self.ridge, "width": width}
        self._draw()
        projected = self.projected(self.features)
        if given:
            self._factorise(gram(projected), projected)
            return
        held = np.zeros(len(base), dtype=bool)
        held[base] = held_out(self.class_ids[base])
        trained = base & ~held
        products = gram(projected[trained])
        self.chosen["ridge"] = self._choose(products, projected, trained, held)
        self._factorise(products + gram(projected[~trained]), projected)

    def _draw(self):
        generator = np.random.default_rng(self.seed)
        shape = self.features.shape[1], self.chosen["width"]
        self.projection = generator.standard_normal(shape, dtype=np.float32)

    def keep(self):
        """The Cholesky factor in rectangular full packed format, half of a square, and L⁻¹ Hᵀ Y."""
        super().keep()
        if self._added.shape[1]:
            self._refit()
        packed, _ = lapack.dtrttf(self._factor, uplo="L")
        return {"factor": packed, "targets": self._targets}

    def _restore(self, kept):
        self._draw()
        factor, _ = lapack.dtfttr(self.chosen["width"], kept["factor"], uplo="L")
        self._begin(factor, kept["targets"])

    def _choose(self, products, projected, trained, held):
        """The ridge whose regression on some base photographs names most of those held out."""
        scale = np.trace(products) / len(products) or 1.0
        if not held.any():
            return float(FALLBACK * scale)
        rows, asked = projected[trained], projected[held]
        classes, places = np.unique(self.class_ids[trained], return_inverse=True)
        if len(rows) < len(products):
            # H (Hᵀ H + r)⁻¹ Hᵀ Y = H Hᵀ (H Hᵀ + r)⁻¹ Y: a system of as many equations as photographs.
            products = gram(rows.T)
            right = np.eye(len(classes))[places]
            asked = asked.astype(float) @ rows.T.astype(float)
        else:
            right = transposed_product(rows, self.class_ids[trained], classes)
        scored = []
        for share in SHARES:
            factor = cholesky(products, share * scale)
            weights = linalg.cho_solve(factor, right, check_finite=False)
            named = classes[(asked @ weights.astype(asked.dtype)).argmax(axis=1)]
            scored.append((int((named == self.class_ids[held]).sum()), share))
        # The larger ridge of equal ones.
        # Rounded, since rounding of the projection must not show in it.
        return float(f"{max(scored)[1] * scale:.3g}")

    def projected(self, features):
        """Random features: float32 (n, width)."""
        return np.maximum(features @ self.projection, 0)

    def _factorise(self, products, projected):
        factor = cholesky(products, self.chosen["ridge"])[0]
        right = transposed_product(projected, self.class_ids, self.classes)
        self._begin(factor, half_solved(factor, right))

    def _begin(self, factor, targets):
        """Start from a factor (width, width) and `half_solved` targets (width, c), both float64."""
        self._factor, self._targets, self._known = factor, targets, self.classes
        self._added = np.empty((len(factor), 0))
        self._added_classes = np.empty(0, dtype=np.int64)
        self._weights = None

    def _refit(self):
        projected = self.projected(self.features)
        self._factorise(gram(projected), projected)

    def _add(self, before):
        added = self.projected(self.features[before:])
        if len(added) + self._added.shape[1] > max(64, len(self._factor) // 4):
            # A new factor is cheaper than so many columns.
            self._refit()
            return
        half = half_solved(self._factor, added.T.astype(float))
        self._added = np.concatenate([self._added, half], axis=1)
        self._added_classes = np.concatenate([self._added_classes, self.class_ids[before:]])
        self._weights = None

    @property
    def weights(self):
        """Weights of the regression: float64 (width, c)."""
        if self._weights is None:
            # With V = L⁻¹ Hᵀ of the added rows H: (L Lᵀ + Hᵀ H)⁻¹ = L⁻ᵀ (I − V (I + Vᵀ V)⁻¹ Vᵀ) L⁻¹.
            half, added = np.zeros((len(self._factor), len(self.classes))), self._added
            half[:, np.searchsorted(self.classes, self._known)] = self._targets
            for class_id in np.unique(self._added_classes):
                column = np.searchsorted(self.classes, class_id)
                half[:, column] += added[:, self._added_classes == class_id].sum(axis=1)
            if added.shape[1]:
                inner = added.T @ added
                inner.flat[:: len(inner) + 1] += 1
                half -= added @ linalg.solve(inner, added.T @ half, assume_a="pos")
            self._weights = linalg.solve_triangular(
                self._factor, half, lower=True, trans="T", overwrite_b=True, check_finite=False
            )
        return self._weights

    def _prepare(self, queries):
        return self.projected(queries)

    def _scores(self, queries, kept):
        return kept.astype(float) @ self.weights


def gram(projected):
    """The sum of h hᵀ over the rows h (n, width): float64 (width, width), lower triangle only."""
    width = projected.shape[1]
    total = np.zeros((width, width), order="F")
    for start in range(0, len(projected), ROWS):
        rows = projected[start : start + ROWS].astype(np.float64)
        total = dsyrk(1.0, rows.T, beta=1.0, c=total, lower=1, overwrite_c=1)
    return total


def cholesky(products, ridge):
    """Cholesky factor, as of `scipy.linalg.cho_factor`, of a `gram` plus ``ridge`` on its diagonal."""
    ridged = products.copy(order="F")
    ridged.flat[:: len(ridged) + 1] += ridge
    return linalg.cho_factor(ridged, lower=True, overwrite_a=True, check_finite=False)


def half_solved(factor, values):
    """L⁻¹ values, L being a Cholesky factor."""
    return linalg.solve_triangular(factor, values, lower=True, check_finite=False)


def transposed_product(projected, class_ids, classes):
    """Hᵀ Y of random features H and one-hot classes Y: the sum of the rows of each class, (width, c)."""
    result = np.zeros((projected.shape[1], len(classes)), order="F")
    columns = {class_id: column for column, class_id in enumerate(classes)}
    for class_id, rows in rows_by_class(class_ids):
        if class_id in columns:
            result[:, columns[class_id]] = projected[rows].sum(axis=0, dtype=np.float64)
    return result


def build(
    *,
    width: Annotated[
        int,
        ">= 1, <= 20000",
        "number of random features, at most two per photograph of a base class",
    ] = 5000,
    ridge: Annotated[
        float | None,
        "> 0, <= 1000000000000",
        "ridge parameter; null to choose it on base photographs held out",
    ] = None,
    seed: Annotated[int, ">= 0, <= 4294967295", "seed of the projection"] = 0,
):
    """RanPAC without its adapters: random features, ReLU, ridge regression."""
    return RandomProjectionRidge(width, ridge, seed)
