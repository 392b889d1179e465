"""Normalised softmax (Zhai, Wu, BMVC 2019), pytorch-metric-learning's."""

from pytorch_metric_learning.losses import NormalizedSoftmaxLoss


def build(num_classes, embedding_dim, *, temperature: float = 0.05):
    """Loss with class weights (embedding_dim, num_classes), normalised as embeddings are."""
    return NormalizedSoftmaxLoss(num_classes, embedding_dim, temperature=temperature)
