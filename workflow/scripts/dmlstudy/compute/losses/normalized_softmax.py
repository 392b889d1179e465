"""Normalised softmax (Zhai, Wu, BMVC 2019), pytorch-metric-learning's: the cosine classifier."""

from typing import Annotated

from pytorch_metric_learning.losses import NormalizedSoftmaxLoss
from torch.nn import functional


class CosineClassifierLoss(NormalizedSoftmaxLoss):
    """Softmax over cosines to class weights. A loss with ``logits`` makes a run a classifier."""

    def logits(self, embeddings):
        """Class scores (batch, num_classes) of embeddings (batch, dim) of any length."""
        return self.get_logits(embeddings)

    def class_weights(self):
        """``weights`` (num_classes, dim), of length 1, and ``scale``: scores are scale · cosine."""
        return {"weights": functional.normalize(self.W.t(), dim=1), "scale": 1 / self.temperature}


def build(
    num_classes,
    embedding_dim,
    *,
    temperature: Annotated[float, ">= 0.0001, <= 1000", "temperature of the softmax"] = 0.05,
):
    """Loss with class weights (embedding_dim, num_classes), normalised as embeddings are."""
    return CosineClassifierLoss(num_classes, embedding_dim, temperature=temperature)
