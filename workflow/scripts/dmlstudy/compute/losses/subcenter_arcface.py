"""Sub-center ArcFace (Deng et al., ECCV 2020), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import SubCenterArcFaceLoss


def build(
    num_classes,
    embedding_dim,
    *,
    margin: Annotated[float, ">= 0, < 180", "angular margin in degrees"] = 28.6,
    scale: Annotated[float, "> 0, <= 10000", "factor on the cosines"] = 64.0,
    sub_centers: Annotated[int, "> 0, <= 1000", "centers per class"] = 3,
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
