"""EPSHN: easy positive, semi-hard negative mining in front of NT-Xent.

Xuan, Stylianou, Pless: Improved Embeddings with Easy Positive Triplet Mining (WACV 2020); here as
pytorch-metric-learning's BatchEasyHardMiner and NTXentLoss.
"""

from typing import Literal

from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import nn

DISTANCES = {"cosine": CosineSimilarity, "euclidean": LpDistance}


class EPSHNLoss(nn.Module):
    """Scalar loss of ``embeddings`` (batch, dim) and ``labels`` (batch,); 0 without positive pairs."""

    def __init__(self, distance, temperature):
        super().__init__()
        self.miner = BatchEasyHardMiner(
            pos_strategy=BatchEasyHardMiner.EASY,
            neg_strategy=BatchEasyHardMiner.SEMIHARD,
            distance=DISTANCES[distance](),
        )
        self.loss = NTXentLoss(temperature=temperature, distance=DISTANCES[distance]())

    def forward(self, embeddings, labels):
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def build(
    num_classes,
    embedding_dim,
    *,
    distance: Literal["cosine", "euclidean"] = "cosine",
    temperature: float = 0.1,
):
    """Loss without weights of its own. Both distances normalise the embeddings first."""
    return EPSHNLoss(distance, temperature)
