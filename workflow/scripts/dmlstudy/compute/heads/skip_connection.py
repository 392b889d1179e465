"""A linear layer, then a second one with a skip connection and a learned gate ("skipConnHead")."""

from typing import Annotated

import torch
from torch import nn


class SkipConnectionHead(nn.Module):
    """e = fc1(f); fc2(dropout(e)) · sigmoid(gate) + e, with one gate per dimension that starts at 0."""

    def __init__(self, in_features, embedding_dim, dropout):
        super().__init__()
        self.fc1 = nn.Linear(in_features, embedding_dim)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(embedding_dim, embedding_dim)
        self.gate = nn.Parameter(torch.zeros(embedding_dim))

    def forward(self, features):
        embedding = self.fc1(features)
        return self.fc2(self.dropout(embedding)) * torch.sigmoid(self.gate) + embedding


def build(
    in_features,
    *,
    embedding_dim: Annotated[int, "> 1, <= 65536", "width of the embedding"] = 128,
    dropout: Annotated[float, ">= 0, < 1", "share of the embedding that dropout zeroes"] = 0.1,
):
    """Module (batch, in_features) → (batch, embedding_dim)."""
    return SkipConnectionHead(in_features, embedding_dim, dropout)
