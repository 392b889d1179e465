"""ArcFace: additive angular margin softmax (Deng et al., CVPR 2019), pytorch-metric-learning's."""

from pytorch_metric_learning.losses import ArcFaceLoss


def build(num_classes, embedding_dim, *, margin: float = 28.6, scale: float = 64.0):
    """Loss with class weights (embedding_dim, num_classes). ``margin`` is in degrees."""
    return ArcFaceLoss(num_classes, embedding_dim, margin=margin, scale=scale)
