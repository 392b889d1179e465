"""Random-effects means over studies: numbers in, numbers out. The estimates are statsmodels'."""

import math
import warnings
from dataclasses import dataclass

import numpy as np

# Half the width of a 95 % interval in standard errors.
WIDTH = 1.959963984540054


@dataclass(frozen=True)
class Pooled:
    """A mean over studies.

    ``k``: number of studies. ``mean``; ``low``, ``high``: 95 % interval of Hartung, Knapp, Sidik and
    Jonkman (t with k − 1 degrees of freedom), modified so that it is never narrower than with the
    standard error of the mean; ``normal_low``, ``normal_high``: 95 % interval of the normal distribution.
    ``tau2``: variance between studies (Paule and Mandel); ``tau2_dl``: the same by DerSimonian and Laird; ``i2``: share of the observed variance that lies between studies, from
    0 to 1 (Higgins and Thompson, Statistics in Medicine 21, 2002). All but ``k``, ``mean`` and the
    normal interval are NaN for one study.
    """

    k: int
    mean: float
    low: float
    high: float
    normal_low: float
    normal_high: float
    tau2: float
    tau2_dl: float
    i2: float


def standard_error(low, high):
    """Standard error of a value from its 95 % interval, as if its distribution were normal."""
    return (high - low) / (2 * WIDTH)


def pool(values, errors):
    """The `Pooled` mean of one value per study.

    ``values``, ``errors``: (k,) values and their standard errors. Sources: DerSimonian and Laird
    (Controlled Clinical Trials 7, 1986); Paule and Mandel (J. Res. NBS 87, 1982); Hartung and Knapp
    (Statistics in Medicine 20, 2001), modified as by Röver, Knapp and Friede (BMC Medical Research
    Methodology 15, 2015): equal values would give an interval without width. Raises ValueError for no
    study, and for an error that is not a positive finite number.
    """
    values, errors = (np.asarray(one, dtype=np.float64) for one in (values, errors))
    if not len(values) or values.shape != errors.shape:
        raise ValueError("as many standard errors as values are needed, and at least one")
    if not (np.isfinite(values).all() and np.isfinite(errors).all() and (errors > 0).all()):
        raise ValueError("values must be finite, and standard errors positive")
    nan = math.nan
    if len(values) == 1:
        half = WIDTH * errors[0]
        mean = float(values[0])
        return Pooled(1, mean, nan, nan, mean - half, mean + half, nan, nan, nan)
    # Here, because it takes a second to import.
    from statsmodels.stats.meta_analysis import combine_effects

    with warnings.catch_warnings():
        # It warns that intervals of single studies, which are not used here, are normal ones.
        warnings.simplefilter("ignore")
        result = combine_effects(values, errors**2, method_re="iterated")
        laird = combine_effects(values, errors**2, method_re="chi2")
        normal = result.conf_int(use_t=False)[1]
        _, plain, _, scaled = result.conf_int(use_t=True)
    student = max(plain, scaled, key=lambda interval: interval[1] - interval[0])
    # Cochran's Q; of equal values it is 0, or by rounding just below.
    q, freedom = float(result.q), len(values) - 1
    return Pooled(
        len(values),
        float(result.mean_effect_re),
        *map(float, student),
        *map(float, normal),
        max(0.0, float(result.tau2)),
        max(0.0, float(laird.tau2)),
        (q - freedom) / q if q > freedom else 0.0,
    )
