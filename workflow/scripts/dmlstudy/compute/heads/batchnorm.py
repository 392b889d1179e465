"""A linear layer and BatchNorm on the embedding ("1dBN")."""

from typing import Annotated

from torch import nn


def build(
    in_features, *, embedding_dim: Annotated[int, "> 1, <= 65536", "width of the embedding"] = 128
):
    """Module (batch, in_features) → (batch, embedding_dim); the layer's weights are Xavier-uniform."""
    layer = nn.Linear(in_features, embedding_dim)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.BatchNorm1d(embedding_dim))
