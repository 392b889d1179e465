"""EPSHN: easy positive, semi-hard negative mining in front of NT-Xent.

Xuan, Stylianou, Pless: Improved Embeddings with Easy Positive Triplet Mining (WACV 2020). Either
pytorch-metric-learning's BatchEasyHardMiner and NTXentLoss, or an implementation that needs no
synchronisation between host and GPU.
"""

from typing import Annotated, Literal

import torch
from pytorch_metric_learning.distances import CosineSimilarity, LpDistance
from pytorch_metric_learning.losses import NTXentLoss
from pytorch_metric_learning.miners import BatchEasyHardMiner
from torch import nn
from torch.nn import functional

DISTANCES = {"cosine": CosineSimilarity, "euclidean": LpDistance}


class EPSHNLoss(nn.Module):
    """The library's loss: a scalar for ``embeddings`` (batch, dim), ``labels`` (batch,); 0 without pairs."""

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


class FixedShapeEPSHNLoss(nn.Module):
    """`EPSHNLoss` with tensors of fixed shapes.

    The library makes lists of the mined pairs; in every step the host waits for the GPU to know their
    lengths. Here anchors without a pair are masked instead.
    """

    def __init__(self, distance, temperature):
        super().__init__()
        self.distance = DISTANCES[distance]()
        self.temperature = temperature

    def forward(self, embeddings, labels):
        similarities = self.distance(embeddings)
        if not self.distance.is_inverted:
            similarities = -similarities
        found, none = similarities.detach(), torch.finfo(similarities.dtype).min
        columns = torch.arange(len(labels), device=labels.device)
        same = labels[:, None] == labels
        positives = same & (columns[:, None] != columns)
        easiest, positive = found.masked_fill(~positives, none).max(dim=1)
        # Anchors without positives have no semi-hard negatives.
        negatives = ~same & ~(found >= easiest[:, None])
        negative = found.masked_fill(~negatives, none).argmax(dim=1)

        def chosen(index):
            return (similarities * (columns == index[:, None])).sum(dim=1)

        # NT-Xent with one negative, which is farther away than the positive.
        losses = functional.softplus((chosen(negative) - chosen(positive)) / self.temperature)
        anchors = positives.any(dim=1) & negatives.any(dim=1)
        count = anchors.sum()
        total = torch.where(anchors, losses, 0).sum()
        # As in the library, a single anchor counts as none.
        return torch.where(count > 1, total / count.clamp(min=1), 0 * total)


IMPLEMENTATIONS = {"fixed_shape": FixedShapeEPSHNLoss, "library": EPSHNLoss}


def build(
    num_classes,
    embedding_dim,
    *,
    distance: Annotated[
        Literal["cosine", "euclidean"], "", "distance between embeddings"
    ] = "cosine",
    temperature: Annotated[
        float, ">= 0.0001, <= 1000", "temperature of the softmax over pairs"
    ] = 0.1,
    implementation: Annotated[
        Literal["fixed_shape", "library"],
        "",
        "fixed_shape: our own, without waits of the host for the GPU; library: pytorch-metric-learning's",
    ] = "fixed_shape",
):
    """Loss without weights. Both distances normalise the embeddings first.

    ``implementation``: `FixedShapeEPSHNLoss`, or pytorch-metric-learning's; they agree within 1e-5.
    """
    return IMPLEMENTATIONS[implementation](distance, temperature)
