"""NT-Xent over two views of each image (Chen et al., ICML 2020), lightly's. Labels are not used."""

from typing import Annotated

from lightly.loss import NTXentLoss
from torch import nn


class SimCLRLoss(nn.Module):
    """Scalar loss of projections (2 · batch, dim): all first views, then all second views."""

    def __init__(self, temperature):
        super().__init__()
        self.loss = NTXentLoss(temperature=temperature)

    def forward(self, embeddings, labels):
        first, second = embeddings.chunk(2)
        return self.loss(first, second)


def build(
    num_classes,
    embedding_dim,
    *,
    temperature: Annotated[
        float, ">= 0.0001, <= 1000", "temperature of the softmax over views"
    ] = 0.5,
):
    """Loss without weights."""
    return SimCLRLoss(temperature)
