"""Intervals have the right coverage; checked by enumeration, theory and SciPy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from dmlstudy.evaluate.intervals import (
    binomial_interval,
    bootstrap,
    holm,
    p_value,
    percentile_interval,
    t_interval,
)

# Exact distributions, by enumerating all possible resamples.


def distribution(samples, weights=None):
    """{value: probability} of a list of values, equally likely unless ``weights`` are given."""
    found = {}
    weights = [1 / len(samples)] * len(samples) if weights is None else weights
    for sample, weight in zip(samples, weights, strict=True):
        key = round(sample, 9)
        found[key] = found.get(key, 0.0) + weight
    return found


def check_distribution(samples, exact):
    """Check that the share of samples up to each possible value is the exact probability."""
    total = 0.0
    for value in sorted(exact):
        total += exact[value]
        assert np.mean(samples <= value + 1e-9) == pytest.approx(total, abs=0.01)


def test_queries_equal_an_enumeration():
    """Would catch resamples of the wrong size, or drawn without replacement."""
    values = [0.0, 1.0, 1.0, -1.0]
    exact = distribution([np.mean(one) for one in itertools.product(values, repeat=4)])
    samples = bootstrap(np.array(values)[:, None], draws=20_000)[:, 0]
    check_distribution(samples, exact)
    low, high = percentile_interval(samples)
    ordered = np.sort([np.mean(one) for one in itertools.product(values, repeat=4)])
    assert (low, high) == (ordered[int(0.025 * 256)], ordered[int(0.975 * 256)])


@pytest.mark.parametrize("macro", [False, True])
def test_classes_then_queries_equal_an_enumeration(macro):
    """Would catch queries drawn from other classes, or a macro mean weighted by queries."""
    groups = [[0.0, 1.0], [1.0, 1.0, -1.0], [0.5]]
    possible = []
    for drawn in itertools.product(groups, repeat=3):
        resamples = [list(itertools.product(group, repeat=len(group))) for group in drawn]
        chance = 1 / (27 * math.prod(len(one) for one in resamples))
        for chosen in itertools.product(*resamples):
            if macro:
                value = np.mean([np.mean(one) for one in chosen])
            else:
                value = np.mean([item for one in chosen for item in one])
            possible.append((value, chance))
    exact = distribution(*zip(*possible, strict=True))
    values = np.array([item for group in groups for item in group])
    classes = np.repeat([7, 3, 5], [2, 3, 1])
    weights = 1 / np.repeat([2.0, 3.0, 1.0], [2, 3, 1]) if macro else np.ones(6)
    # The order of the queries must not matter.
    order = np.array([3, 0, 5, 2, 1, 4])
    samples = bootstrap(
        (values * weights)[order, None], weights[order], classes=classes[order], draws=20_000
    )[:, 0]
    check_distribution(samples, exact)


def test_resamples_are_paired_and_follow_the_seed():
    """Would catch two models resampled separately, which makes differences look uncertain."""
    rng = np.random.default_rng(0)
    values = (rng.random((300, 2)) < 0.5).astype(float)
    both = bootstrap(values, draws=1200)
    np.testing.assert_array_equal(both[:, :1], bootstrap(values[:, :1], draws=1200))
    np.testing.assert_array_equal(bootstrap(values[:, 1:], draws=1200), both[:, 1:])
    assert (bootstrap(values, draws=1200, seed=1) != both).any()
    shifted = bootstrap(values[:, :1] + 0.25, draws=1200)
    np.testing.assert_allclose(shifted - both[:, :1], 0.25, atol=1e-12)


# Coverage.

QUERIES, DATA_SETS = 2358, 1000


def planted(difference, seed):
    """Differences of scores (n, data sets) of two models with a known mean difference."""
    rng = np.random.default_rng(seed)
    disagree = 0.28
    first = (disagree + difference) / 2
    drawn = rng.random((QUERIES, DATA_SETS))
    return np.where(drawn < first, 1.0, np.where(drawn < disagree, -1.0, 0.0))


def analytic(values):
    """Paired interval of a difference of proportions (McNemar's, with the normal distribution)."""
    mean = values.mean(axis=0)
    half = 1.959964 * np.sqrt((values**2).mean(axis=0) - mean**2) / math.sqrt(QUERIES)
    return np.stack([mean - half, mean + half])


@pytest.fixture(scope="module")
def simulated():
    """{known difference: (our intervals (2, data sets), analytic intervals)}."""
    found = {}
    for seed, difference in enumerate((0.0, 0.03)):
        values = planted(difference, seed)
        samples = bootstrap(values, draws=2000)
        found[difference] = (np.percentile(samples, [2.5, 97.5], axis=0), analytic(values))
    return found


def faults(simulated, scale=1.0):
    """The faults of intervals that are ``scale`` times as wide as ours, as a list."""
    found = []
    for difference, (ours, theirs) in simulated.items():
        middle, half = ours.mean(axis=0), np.ptp(ours, axis=0) / 2 * scale
        low, high = middle - half, middle + half
        coverage = np.mean((low <= difference) & (difference <= high))
        if not 0.93 <= coverage <= 0.97:
            found.append(f"coverage of {difference}: {coverage}")
        if not 0.9 <= np.mean(high - low) / np.mean(np.ptp(theirs, axis=0)) <= 1.1:
            found.append("width")
        if difference:
            power = np.mean((low > 0) | (high < 0))
            if power < np.mean((theirs[0] > 0) | (theirs[1] < 0)) - 0.02:
                found.append(f"power {power}")
    return found


def test_intervals_cover_what_they_should(simulated):
    """Would catch intervals that are too narrow or too wide."""
    assert faults(simulated) == []


@pytest.mark.parametrize("scale", [0.8, 1.25])
def test_wrong_intervals_are_caught(simulated, scale):
    """Would catch a coverage test that any interval passes."""
    assert any("coverage" in fault for fault in faults(simulated, scale))
    assert "width" in faults(simulated, scale)


def test_classes_then_queries_cover_other_classes():
    """Would catch an interval over queries alone, which ignores that classes are a sample too."""
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(20), 12)
    covered = {"classes": 0, "queries": 0}
    for _ in range(300):
        chances = np.clip(0.2 + 0.2 * rng.standard_normal(20), 0, 1)
        values = (rng.random(240) < chances[classes]).astype(float)[:, None]
        # The mean of the clipped normal distribution above.
        truth = (
            0.2
            + 0.2 * (stats.norm.pdf(1) - stats.norm.sf(1))
            - 0.2 * (stats.norm.pdf(4) - 4 * stats.norm.sf(4))
        )
        for name, over in (("classes", classes), ("queries", None)):
            low, high = percentile_interval(bootstrap(values, classes=over, draws=400)[:, 0])
            covered[name] += low <= truth <= high
    assert 0.92 <= covered["classes"] / 300 <= 0.99
    assert covered["queries"] / 300 < 0.85


# p-values.


def test_p_value_agrees_with_the_interval():
    """Would catch a significant p-value although the interval contains 0."""
    rng = np.random.default_rng(2)
    for shift in np.linspace(0, 0.05, 40):
        values = rng.standard_normal(400)[:, None] * 0.2 + shift
        samples = bootstrap(values, draws=3000)[:, 0]
        low, high = percentile_interval(samples)
        p = p_value(samples)
        if abs(p - 0.05) > 0.003:
            assert (p < 0.05) == (low > 0 or high < 0)
    assert p_value(np.array([0.0, 0.0])) == 1.0
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000)


def test_holm_equals_a_worked_example():
    """Would catch Bonferroni's factor, adjusted values that decrease, or one above 1."""
    # Sorted: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1 which must not be below the one before.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    adjusted = holm([0.01, np.nan, 0.02])
    np.testing.assert_allclose(adjusted[[0, 2]], [0.02, 0.02])
    assert np.isnan(adjusted[1])


def test_t_interval_equals_its_formula():
    """Would catch a standard deviation with n, or quantiles of the normal distribution."""
    values = np.array([0.02, 0.05, 0.03])
    low, high, p = t_interval(values)
    half = 4.302653 * values.std(ddof=1) / math.sqrt(3)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=1e-6)
    statistic = values.mean() / (values.std(ddof=1) / math.sqrt(3))
    assert p == pytest.approx(2 * stats.t.sf(statistic, 2))
    assert all(math.isnan(value) for value in t_interval([0.4]))
    assert t_interval([0.4, 0.4])[:2] == (0.4, 0.4)


def test_binomial_interval_equals_wilsons_formula():
    """Would catch the normal approximation, whose interval can leave 0…1."""
    share, count, z = 0.62, 2358, 1.959964
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    assert binomial_interval(share, count) == pytest.approx(
        (centre - half, centre + half), abs=1e-4
    )
    assert binomial_interval(0.0, 20)[0] == 0.0
    assert binomial_interval(0.0, 20)[1] > 0.1
