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

    ``la`` scales the classes' cosines, ``gamma`` is the temperature of the choice among a class's
    centers, ``margin`` is taken from the true class's cosine.
    """
    return SoftTripleLoss(
        num_classes,
        embedding_dim,
        centers_per_class=centers_per_class,
        la=la,
        gamma=gamma,
        margin=margin,
    )
