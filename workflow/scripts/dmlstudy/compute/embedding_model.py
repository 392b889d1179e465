"""Backbones and the embedding model."""

import torch
import torchvision
from torch import nn

from dmlstudy.core.files import StudyError

# torchvision's builder and the width of its pooled features.
BACKBONES = {
    "resnet18": (torchvision.models.resnet18, 512),
    "resnet50": (torchvision.models.resnet50, 2048),
}


def build_backbone(name):
    """torchvision's ResNet without its classifier, randomly initialised from torch's generator.

    Returns (module, feature_dim); the module maps images (batch, 3, height, width) to pooled
    features (batch, feature_dim). Raises StudyError for an unknown name.
    """
    if name not in BACKBONES:
        raise StudyError(f"unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    builder, feature_dim = BACKBONES[name]
    backbone = builder(weights=None)
    backbone.fc = nn.Identity()
    return backbone, feature_dim


def load_backbone_weights(backbone, path):
    """Load a state dict (never unpickling code) into ``backbone``; a classifier's weights are dropped.

    Raises StudyError that names the file and the first key or shape that does not fit.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise StudyError(
            f"{path}: not a file of weights that can be loaded safely: {error}"
        ) from None
    if not isinstance(state, dict):
        raise StudyError(f"{path}: holds a {type(state).__name__}, not a dictionary of weights")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    own = backbone.state_dict()
    for key in own:
        # Weights older than torchvision 0.3 lack the batch counters; they start at 0.
        if key not in state and key.endswith("num_batches_tracked"):
            state[key] = own[key]
    for key, value in own.items():
        if key not in state:
            raise StudyError(f"{path}: {key} is missing; are these weights of another backbone?")
        if not isinstance(state[key], torch.Tensor) or state[key].shape != value.shape:
            found = getattr(state[key], "shape", type(state[key]).__name__)
            raise StudyError(f"{path}: {key} is {found}, not {tuple(value.shape)}")
    for key in state:
        if key not in own:
            raise StudyError(f"{path}: {key} does not belong to this backbone")
    backbone.load_state_dict(state)


class EmbeddingModel(nn.Module):
    """Backbone and head. Maps images (batch, 3, height, width) to embeddings (batch, dim), not normalised."""

    def __init__(self, backbone, head, frozen_batchnorm=False):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.frozen_batchnorm = frozen_batchnorm
        if frozen_batchnorm:
            for module in self._batchnorms():
                module.requires_grad_(False)

    def _batchnorms(self):
        return (m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d))

    def train(self, mode=True):
        super().train(mode)
        if self.frozen_batchnorm:
            for module in self._batchnorms():
                module.eval()
        return self

    def forward(self, images):
        return self.head(self.backbone(images))
