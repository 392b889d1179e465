"""Supervised contrastive loss (Khosla et al., NeurIPS 2020), pytorch-metric-learning's."""

from pytorch_metric_learning.losses import SupConLoss


def build(num_classes, embedding_dim, *, temperature: float = 0.1):
    """Loss without weights; 0 in a batch without positive pairs."""
    return SupConLoss(temperature=temperature)
