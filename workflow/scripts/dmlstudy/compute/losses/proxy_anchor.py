"""Proxy Anchor (Kim et al., CVPR 2020), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import ProxyAnchorLoss


class ProxyAnchorWithWeights(ProxyAnchorLoss):
    """The library's loss, whose class weights a run stores."""

    def class_weights(self):
        """``weights`` (num_classes, dim): the proxies, of any length."""
        return {"weights": self.proxies}


def build(
    num_classes,
    embedding_dim,
    *,
    margin: Annotated[float, ">= -2, <= 2", "margin on similarities"] = 0.1,
    alpha: Annotated[float, "> 0, <= 10000", "factor on similarities"] = 32.0,
):
    """Loss with one proxy per class. ``margin`` is a cosine; ``alpha`` scales the similarities."""
    return ProxyAnchorWithWeights(num_classes, embedding_dim, margin=margin, alpha=alpha)
