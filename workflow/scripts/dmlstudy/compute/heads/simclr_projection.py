"""SimCLR's projection head, lightly's: two layers with BatchNorm."""

from typing import Annotated

from lightly.models.modules import SimCLRProjectionHead


def build(
    in_features,
    *,
    hidden_dim: Annotated[int, "> 0, <= 65536", "width of the hidden layer"] = 512,
    embedding_dim: Annotated[int, "> 1, <= 65536", "width of the embedding"] = 128,
):
    """Module (batch, in_features) → (batch, embedding_dim)."""
    return SimCLRProjectionHead(in_features, hidden_dim, embedding_dim)
