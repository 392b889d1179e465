"""SoftTriple (Qian et al., ICCV 2019), pytorch-metric-learning's, without its center regulariser."""

from pytorch_metric_learning.losses import SoftTripleLoss


def build(
    num_classes,
    embedding_dim,
    *,
    centers_per_class: int = 10,
    la: float = 20.0,
    gamma: float = 0.1,
    margin: float = 0.01,
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
