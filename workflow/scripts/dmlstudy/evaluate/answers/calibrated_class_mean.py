"""Class means of new classes, moved towards similar base classes: TEEN (Wang et al., NeurIPS 2023).

"Few-Shot Class-Incremental Learning via Training-Free Prototype Calibration", equations 5 to 7: the
prototype of a new class is ``alpha`` times its mean plus 1 − ``alpha`` times the mean of the base prototypes,
weighted by the softmax of ``scale`` times their cosine with it. Base prototypes stay.
"""

from typing import Annotated

from scipy.special import softmax

from dmlstudy.evaluate.answers.answer import normalised
from dmlstudy.evaluate.answers.class_mean import ClassMean


class CalibratedClassMean(ClassMean):
    """A score is the cosine of the query and the calibrated prototype."""

    def __init__(self, alpha, scale):
        super().__init__()
        self.alpha, self.scale = alpha, scale

    def prototypes(self):
        means, base = self.sums.means, self.is_base()
        directions = normalised(means)
        weights = softmax(self.scale * directions[~base] @ directions[base].T, axis=1)
        moved = means.copy()
        moved[~base] = self.alpha * means[~base] + (1 - self.alpha) * weights @ means[base]
        return normalised(moved)


def build(
    *,
    alpha: Annotated[
        float, ">= 0, <= 1", "share of the new class's own mean; 1 changes nothing"
    ] = 0.5,
    scale: Annotated[float, ">= 0, <= 10000", "factor on the cosines before the softmax"] = 16.0,
):
    """TEEN with the defaults of the paper."""
    return CalibratedClassMean(alpha, scale)
