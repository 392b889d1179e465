"""Confidence intervals and p-values of metrics: bootstrap and t-intervals. NumPy in, numbers out.

A metric is a weighted mean over queries, Σ numerators / Σ denominators. Denominators of 1 give a
micro mean, denominators of 1 / (number of queries of the class) a macro mean. The paired difference
between two models is the same metric of the differences of the numerators.
"""

import numpy as np

# Resamples that are made at a time: a few dozen megabytes for CUB.
CHUNK = 500
# Numbers that are counted at a time. With many classes, counting waits for memory if they are more.
BLOCK = 50_000


def _query_counts(generator, count, draws):
    """How often each of ``count`` queries is drawn, with replacement: integers (draws, count)."""
    return _counts(generator.integers(0, count, (draws, count)), count)


def _counts(drawn, count):
    """How often each of ``count`` numbers is in each row of ``drawn``: integers (rows, count)."""
    found = np.empty((len(drawn), count), dtype=np.int64)
    for rows in blocks(len(drawn), drawn.shape[1]):
        some = drawn[rows] + np.arange(len(found[rows]))[:, None] * count
        found[rows] = np.bincount(some.ravel(), minlength=found[rows].size).reshape(-1, count)
    return found


def _class_counts(generator, positions, starts, sizes, draws):
    """As `_query_counts`, but draws classes first, then queries within each drawn class."""
    count = len(positions)
    classes = generator.integers(0, len(sizes), (draws, len(sizes)))
    found = np.empty((draws, count), dtype=np.int64)
    # Counted in order of the classes, then put in order of the queries.
    order = np.argsort(positions)
    for rows in blocks(draws, len(sizes)):
        some = classes[rows]
        lengths = sizes[some].ravel()
        first = (starts[some] + np.arange(len(some))[:, None] * count).ravel()
        picks = (generator.random(lengths.sum()) * np.repeat(lengths, lengths)).astype(np.int64)
        picks += np.repeat(first, lengths)
        counts = np.bincount(picks, minlength=len(some) * count).reshape(-1, count)
        np.take(counts, order, axis=1, out=found[rows], mode="clip")
    return found


def blocks(rows, width):
    """Slices of ``rows`` of so many numbers each, together small enough for a processor's cache."""
    step = max(1, BLOCK // max(1, width))
    return (slice(begin, begin + step) for begin in range(0, rows, step))


def resamples(count, classes=None, *, draws, seed):
    """How often each of ``count`` queries is in each resample: integers (chunk, count), chunk by chunk.

    ``classes`` (count,): see `bootstrap`, whose resamples these are.
    """
    generator = np.random.default_rng(seed)
    if classes is not None:
        positions = np.argsort(classes, kind="stable")
        _, starts, sizes = np.unique(
            np.asarray(classes)[positions], return_index=True, return_counts=True
        )
    for begin in range(0, draws, CHUNK):
        size = min(CHUNK, draws - begin)
        if classes is None:
            yield _query_counts(generator, count, size)
        else:
            yield _class_counts(generator, positions, starts, sizes, size)


def bootstrap(numerators, denominators=None, *, classes=None, draws=10_000, seed=42):
    """Bootstrap samples (draws, k) of k metrics.

    ``numerators`` (n, k), ``denominators`` (n,) or (n, k): of n queries; see the module. Without
    ``classes``, queries are drawn with replacement. With ``classes`` (n,), classes are drawn first,
    then queries within each drawn class: the interval then holds for other classes too (Davison,
    Hinkley: Bootstrap Methods and their Application, 1997, section 3.8). Equal n, classes and seed
    give the same resamples, so differences between models are paired.
    """
    numerators = np.asarray(numerators, dtype=np.float64)
    denominators = np.ones(len(numerators)) if denominators is None else np.asarray(denominators)
    if not len(numerators):
        return np.full((draws, numerators.shape[1]), np.nan)
    both = np.column_stack([numerators, denominators])
    width = numerators.shape[1]
    sums = (counts @ both for counts in resamples(len(both), classes, draws=draws, seed=seed))
    return np.concatenate([one[:, :width] / one[:, width:] for one in sums])


def percentile_interval(samples, level=0.95):
    """(low, high) of bootstrap samples (draws,): the middle ``level`` of them (Efron, 1979)."""
    tail = (1 - level) / 2 * 100
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def p_value(samples):
    """Two-sided p-value of "no difference": twice the smaller share of samples on one side of 0.

    It agrees with `percentile_interval`, up to one resample in ``draws``: it is below 0.05 if the
    interval excludes 0. Adding 1 keeps it above 0, since no finite number of resamples can show a
    p-value of 0 (Davison, Hinkley, section 4.2).
    """
    beyond = min(np.count_nonzero(samples <= 0), np.count_nonzero(samples >= 0))
    return min(1.0, 2 * (beyond + 1) / (len(samples) + 1))


def holm(p_values):
    """Holm-adjusted p-values (Scandinavian Journal of Statistics 6, 1979).

    NaN is ignored and stays NaN.
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(len(p_values), np.nan)
    order = [index for index in np.argsort(p_values) if not np.isnan(p_values[index])]
    highest = 0.0
    for position, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - position) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def t_interval(values, level=0.95):
    """t-interval of the mean over seeds: (low, high, p-value of mean 0).

    NaN for fewer than two values.
    """
    values = np.asarray(values, dtype=np.float64)
    if len(values) < 2:
        return float("nan"), float("nan"), float("nan")
    from scipy import stats

    if np.ptp(values) < 1e-12:
        # Untrained rows are equal for all seeds. There is no spread to divide by, so no test.
        return float(values[0]), float(values[0]), float("nan")
    result = stats.ttest_1samp(values, 0.0)
    low, high = result.confidence_interval(level)
    return float(low), float(high), float(result.pvalue)


def binomial_interval(share, count, level=0.95):
    """(low, high) of a share of ``count`` trials: the Wilson score interval (JASA 22, 1927)."""
    from scipy import stats

    interval = stats.binomtest(round(share * count), count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
