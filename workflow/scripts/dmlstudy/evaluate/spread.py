"""How far embeddings spread: in how many directions, and how different their similarities are."""

import numpy as np

# Variance that rounding leaves in embeddings which are all equal, as a share of their squared length.
ROUNDING = float(np.finfo(np.float32).eps) ** 2
# Figures are rounded, so that the number of threads, on which sums depend, does not change the file.
DECIMALS = 6
# Rows that are converted to float64 at a time.
BLOCK = 4096


def _product(values, mean):
    """XᵀX or XXᵀ in float64, whichever is smaller, of the rows of ``values`` minus ``mean`` (dim,).

    Both have the same trace, the same sum of squares and, apart from zeros, the same eigenvalues.
    """
    count, dim = values.shape
    if dim > count:
        centred = values - mean
        return centred @ centred.T
    product = np.zeros((dim, dim))
    for start in range(0, count, BLOCK):
        rows = values[start : start + BLOCK] - mean
        product += rows.T @ rows
    return product


def effective_rank(values):
    """Effective rank of the covariance matrix of embeddings: in how many directions they vary.

    ``values``: (n, dim). It is exp(H(p)), where p are the eigenvalues of the covariance matrix divided by
    their sum and H is Shannon's entropy (Roy, Vetterli: The effective rank, EUSIPCO 2007; for this matrix
    the singular values are the eigenvalues). It is 1 if all embeddings lie on a line, dim if they vary
    equally in all directions, and 0 if all are equal.
    """
    product = _product(values, values.mean(axis=0, dtype=np.float64))
    if np.trace(product) <= ROUNDING * np.square(values).sum(dtype=np.float64):
        return 0.0
    eigenvalues = np.linalg.eigvalsh(product).clip(min=0)
    shares = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def similarities(values):
    """(mean, standard deviation) of the cosine similarities of all pairs of embeddings.

    ``values``: (n, dim), of length 1 or 0. Both are NaN for fewer than two embeddings. No pair is computed:
    sums over all pairs follow from the sum of the embeddings and from their products by dimension.
    """
    own = np.einsum("ij,ij->i", values, values, dtype=np.float64)
    pairs = len(values) * (len(values) - 1)
    if not pairs:
        return float("nan"), float("nan")
    mean = (np.square(values.sum(axis=0, dtype=np.float64)).sum() - own.sum()) / pairs
    products = _product(values, np.zeros(values.shape[1]))
    squares = (np.square(products).sum() - np.square(own).sum()) / pairs
    return float(mean), float(np.sqrt(max(0.0, squares - mean**2)))


def spread(values):
    """Scalars for a run's summary.json, of the embeddings of its gallery (n, dim)."""
    mean, deviation = similarities(values)
    figures = {
        "gallery_effective_rank": effective_rank(values),
        "gallery_mean_similarity": mean,
        "gallery_similarity_spread": deviation,
    }
    figures = {
        name: None if value != value else round(value, DECIMALS) for name, value in figures.items()
    }
    return {"embedding_dim": int(np.shape(values)[1]), **figures}
