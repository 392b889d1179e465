"""SoftTriple (Qian et al., ICCV 2019), pytorch-metric-learning's, without its center regulariser."""

from typing import Annotated

from pytorch_metric_learning.losses import SoftTripleLoss


def build(
    num_classes,
    embedding_dim,
    *,
    centers_per_class: Annotated[int, "> 0, <= 1000", "centers per class"] = 10,
    la: Annotated[float, "> 0, <= 10000", "factor on similarities"] = 20.0,
    gamma: Annotated[
        float, ">= 0.0001, <= 1000", "temperature of the softmax over a class's centers"
    ] = 0.1,
    margin: Annotated[float, ">= 0, <= 2", "margin on similarities"] = 0.01,
):
    """Loss with ``centers_per_class`` weights per class.

    ``la`` scales the cosines of the classes, ``gamma`` is the temperature of the softmax over the centers
    of a class, ``margin`` is subtracted from the cosine of the true class.
    """
    return SoftTripleLoss(
        num_classes,
        embedding_dim,
        centers_per_class=centers_per_class,
        la=la,
        gamma=gamma,
        margin=margin,
    )
