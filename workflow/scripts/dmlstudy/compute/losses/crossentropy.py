"""The classical classifier: one affine layer and softmax cross-entropy."""

from typing import Annotated

from torch import nn
from torch.nn import functional


class CrossEntropyLoss(nn.Module):
    """A classification layer and its loss. A loss with ``logits`` makes a run a classifier."""

    def __init__(self, num_classes, embedding_dim, label_smoothing):
        super().__init__()
        self.classifier = nn.Linear(embedding_dim, num_classes)
        self.label_smoothing = label_smoothing

    def logits(self, embeddings):
        """Class scores (batch, num_classes) of un-normalised embeddings (batch, dim)."""
        return self.classifier(embeddings)

    def class_weights(self):
        """``weights`` (num_classes, dim) and ``bias`` (num_classes,): scores are weights · x + bias."""
        return {"weights": self.classifier.weight, "bias": self.classifier.bias}

    def forward(self, embeddings, labels):
        return functional.cross_entropy(
            self.logits(embeddings), labels, label_smoothing=self.label_smoothing
        )


def build(
    num_classes,
    embedding_dim,
    *,
    label_smoothing: Annotated[
        float, ">= 0, < 1", "share of the target that is spread over all classes"
    ] = 0.0,
):
    """Loss with its own affine classification layer."""
    return CrossEntropyLoss(num_classes, embedding_dim, label_smoothing)
