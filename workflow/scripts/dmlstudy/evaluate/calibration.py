"""The probability that an answer is right, from a score (Platt scaling), and how far it can be trusted."""

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Probability = 1 / (1 + exp(-(slope · score + intercept))), so it grows with the score."""

    slope: float
    intercept: float

    def __call__(self, scores):
        """Probabilities (n,) of scores (n,)."""
        from scipy.special import expit

        return expit(self.slope * np.asarray(scores, dtype=np.float64) + self.intercept)


def calibrate(scores, correct):
    """The `Calibration` of scores (n,) and whether the answers were right (n,), or None.

    Logistic regression (Platt, Probabilistic Outputs for Support Vector Machines, 1999), by scikit-learn. It
    is preferred to isotonic regression because a higher score always gets a higher probability, and because two
    numbers can be written into an index; the errors of both are alike (docs/rejection.md). None if all answers are right or all are wrong, if all scores are equal, or if a higher score does
    not mean a better answer: then the score tells nothing of the answer.
    """
    scores, correct = np.asarray(scores, dtype=np.float64), np.asarray(correct, dtype=int)
    if len(np.unique(correct)) < 2 or np.ptp(scores) == 0:
        return None
    from sklearn.linear_model import LogisticRegression

    # On standardised scores, scikit-learn's penalty hardly matters for hundreds of answers. It keeps the slope
    # finite where a score separates right from wrong answers without error.
    centre, scale = scores.mean(), scores.std()
    fitted = LogisticRegression().fit((scores[:, None] - centre) / scale, correct)
    slope = float(fitted.coef_[0, 0] / scale)
    if slope <= 0:
        return None
    return Calibration(slope, float(fitted.intercept_[0] - slope * centre))


def expected_calibration_error(probabilities, correct, bins=BINS):
    """Mean |probability - share of right answers| over bins of equal width, weighted by their answers.

    ``probabilities``, ``correct`` (n,). Guo et al., On Calibration of Modern Neural Networks, ICML 2017; the
    bins are closed on the right, as in their code. NaN without answers.
    """
    probabilities, correct = (np.asarray(one, dtype=float) for one in (probabilities, correct))
    if not len(probabilities):
        return float("nan")
    place = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, probabilities - correct, minlength=bins)
    return float(np.abs(gaps).sum() / len(probabilities))
