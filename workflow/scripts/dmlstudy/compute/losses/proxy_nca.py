"""ProxyNCA (Movshovitz-Attias et al., ICCV 2017), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import ProxyNCALoss


class ProxyNCAWithWeights(ProxyNCALoss):
    """The library's loss, whose class weights a run stores."""

    def class_weights(self):
        """``weights`` (num_classes, dim): the proxies, of any length."""
        return {"weights": self.proxies}


def build(
    num_classes,
    embedding_dim,
    *,
    softmax_scale: Annotated[float, "> 0, <= 10000", "factor on distances"] = 1.0,
):
    """Loss with one proxy per class. ``softmax_scale`` multiplies the squared distances."""
    return ProxyNCAWithWeights(num_classes, embedding_dim, softmax_scale=softmax_scale)
