"""One affine layer from the pooled features to the embedding."""

from typing import Annotated

from torch import nn


def build(
    in_features, *, embedding_dim: Annotated[int, "> 1, <= 65536", "width of the embedding"] = 128
):
    """Module (batch, in_features) → (batch, embedding_dim)."""
    return nn.Linear(in_features, embedding_dim)
