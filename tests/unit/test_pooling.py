"""Random-effects means agree with formulas written out by hand."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.pooling import pool, standard_error

CASES = [
    ([0.1, 0.3, 0.2], [0.03, 0.05, 0.04]),
    ([0.1, 0.3], [0.03, 0.05]),
    ([-0.02, 0.05, 0.01, 0.2, 0.07], [0.02, 0.01, 0.05, 0.03, 0.04]),
    # Less spread than chance alone would give.
    ([0.1, 0.1001, 0.0999], [0.03, 0.05, 0.04]),
    # None at all: the plain interval of Hartung and Knapp has no width, and Q may be negative by rounding.
    ([-0.1, -0.1, -0.1], [0.03, 0.05, 0.04]),
]


def by_hand(values, errors):
    """(mean, interval, normal interval, tau² of Paule and Mandel, of DerSimonian and Laird, I²)."""
    k, weights = len(values), [1 / error**2 for error in errors]

    def mean_of(tau2):
        inverse = [1 / (error**2 + tau2) for error in errors]
        mean = sum(w * v for w, v in zip(inverse, values, strict=True)) / sum(inverse)
        return mean, inverse

    def spread(tau2):
        mean, inverse = mean_of(tau2)
        return sum(w * (v - mean) ** 2 for w, v in zip(inverse, values, strict=True))

    q = spread(0)
    denominator = sum(weights) - sum(w**2 for w in weights) / sum(weights)
    laird = max(0.0, (q - (k - 1)) / denominator)
    tau2 = 0.0 if q <= k - 1 else optimize.brentq(lambda t: spread(t) - (k - 1), 0, 10, xtol=1e-14)
    mean, inverse = mean_of(tau2)
    half = stats.norm.ppf(0.975) / math.sqrt(sum(inverse))
    scale = max(1.0, spread(tau2) / (k - 1))
    hartung = stats.t.ppf(0.975, k - 1) * math.sqrt(scale / sum(inverse))
    return (
        mean,
        (mean - hartung, mean + hartung),
        (mean - half, mean + half),
        tau2,
        laird,
        max(0.0, (q - (k - 1)) / q) if q > 0 else 0.0,
    )


@pytest.mark.parametrize(("values", "errors"), CASES)
def test_means_are_those_of_the_formulas(values, errors):
    """Would catch variances taken for errors, a wrong row of the library's table, or a negative tau²."""
    found = pool(values, errors)
    mean, interval, normal, tau2, laird, share = by_hand(values, errors)
    assert found.k == len(values)
    assert found.mean == pytest.approx(mean, abs=1e-6)
    assert (found.low, found.high) == pytest.approx(interval, abs=1e-5)
    assert (found.normal_low, found.normal_high) == pytest.approx(normal, abs=1e-5)
    assert found.tau2 == pytest.approx(tau2, abs=1e-6)
    assert found.tau2_dl == pytest.approx(laird, abs=1e-9)
    assert found.i2 == pytest.approx(share, abs=1e-9)


def test_one_study_has_no_variance_between_studies():
    """Would catch a mean over one study that looks like one over many."""
    found = pool([0.1], [0.02])
    assert (found.k, found.mean) == (1, 0.1)
    for name in ("low", "high", "tau2", "tau2_dl", "i2"):
        assert math.isnan(getattr(found, name))
    assert found.normal_high - found.normal_low == pytest.approx(2 * 1.959964 * 0.02, rel=1e-6)


@pytest.mark.parametrize(
    ("values", "errors"), [([], []), ([0.1], [0.0]), ([0.1, float("nan")], [1, 1]), ([0.1], [1, 1])]
)
def test_senseless_input_is_refused(values, errors):
    """Would catch a study with an infinite weight."""
    with pytest.raises(ValueError, match="standard errors"):
        pool(values, errors)


def test_standard_error_is_that_of_the_interval():
    """Would catch half a width, or a whole one: the bootstrap of a mean has a known standard error."""
    values = np.random.default_rng(0).normal(size=(400, 1))
    low, high = percentile_interval(bootstrap(values, draws=4000)[:, 0])
    assert standard_error(low, high) == pytest.approx(values.std() / 20, rel=0.06)
