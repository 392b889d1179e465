"""SimCLR's projection head, lightly's: two layers with BatchNorm."""

from lightly.models.modules import SimCLRProjectionHead


def build(in_features, *, hidden_dim: int = 512, embedding_dim: int = 128):
    """Module (batch, in_features) → (batch, embedding_dim)."""
    return SimCLRProjectionHead(in_features, hidden_dim, embedding_dim)
