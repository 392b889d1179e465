"""Sub-center ArcFace (Deng et al., ECCV 2020), pytorch-metric-learning's."""

from pytorch_metric_learning.losses import SubCenterArcFaceLoss


def build(
    num_classes,
    embedding_dim,
    *,
    margin: float = 28.6,
    scale: float = 64.0,
    sub_centers: int = 3,
):
    """Loss with ``sub_centers`` weights per class. ``margin`` is in degrees."""
    # The library only accepts keyword arguments here.
    return SubCenterArcFaceLoss(
        num_classes=num_classes,
        embedding_size=embedding_dim,
        margin=margin,
        scale=scale,
        sub_centers=sub_centers,
    )
