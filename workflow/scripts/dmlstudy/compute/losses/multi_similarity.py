"""Multi-Similarity loss with its miner (Wang et al., CVPR 2019), pytorch-metric-learning's."""

from typing import Annotated

from pytorch_metric_learning.losses import MultiSimilarityLoss as PairLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import nn


class MultiSimilarityLoss(nn.Module):
    """Scalar loss of ``embeddings`` (batch, dim) and ``labels`` (batch,); 0 without mined pairs."""

    def __init__(self, alpha, beta, base, epsilon):
        super().__init__()
        self.miner = MultiSimilarityMiner(epsilon=epsilon)
        self.loss = PairLoss(alpha=alpha, beta=beta, base=base)

    def forward(self, embeddings, labels):
        return self.loss(embeddings, labels, self.miner(embeddings, labels))


def build(
    num_classes,
    embedding_dim,
    *,
    alpha: Annotated[float, "> 0, <= 10000", "weight of positive pairs"] = 2.0,
    beta: Annotated[float, "> 0, <= 10000", "weight of negative pairs"] = 50.0,
    base: Annotated[float, ">= -2, <= 2", "similarity around which pairs are weighted"] = 0.5,
    epsilon: Annotated[float, ">= 0, <= 2", "margin of the miner"] = 0.1,
):
    """Loss without weights.

    ``alpha`` and ``beta`` scale positive and negative pairs around the cosine ``base``. The miner keeps
    positive pairs that are less similar than the most similar negative pair plus ``epsilon``, and
    negative pairs that are more similar than the least similar positive pair minus ``epsilon``.
    """
    return MultiSimilarityLoss(alpha, beta, base, epsilon)
