"""Supervised contrastive loss (Khosla et al., NeurIPS 2020), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import SupConLoss


def build(
    num_classes,
    embedding_dim,
    *,
    temperature: Annotated[
        float, ">= 0.0001, <= 1000", "temperature of the softmax over pairs"
    ] = 0.1,
):
    """Loss without weights; 0 in a batch without positive pairs."""
    return SupConLoss(temperature=temperature)
