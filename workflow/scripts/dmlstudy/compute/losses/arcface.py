"""ArcFace: additive angular margin softmax (Deng et al., CVPR 2019), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import ArcFaceLoss


class ArcFaceWithWeights(ArcFaceLoss):
    """The library's loss, whose class weights a run stores."""

    def class_weights(self):
        """``weights`` (num_classes, dim), of any length."""
        return {"weights": self.W.t()}


def build(
    num_classes,
    embedding_dim,
    *,
    margin: Annotated[float, ">= 0, < 180", "angular margin in degrees"] = 28.6,
    scale: Annotated[float, "> 0, <= 10000", "factor on the cosines"] = 64.0,
):
    """Loss with class weights (embedding_dim, num_classes). ``margin`` is in degrees."""
    return ArcFaceWithWeights(num_classes, embedding_dim, margin=margin, scale=scale)
