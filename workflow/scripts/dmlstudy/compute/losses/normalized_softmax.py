"""Normalised softmax (Zhai, Wu, BMVC 2019), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import NormalizedSoftmaxLoss


def build(
    num_classes,
    embedding_dim,
    *,
    temperature: Annotated[float, ">= 0.0001, <= 1000", "temperature of the softmax"] = 0.05,
):
    """Loss with class weights (embedding_dim, num_classes), normalised as embeddings are."""
    return NormalizedSoftmaxLoss(num_classes, embedding_dim, temperature=temperature)
