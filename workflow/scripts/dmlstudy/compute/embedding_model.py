"""A backbone by its name, and the embedding model: backbone and head."""

import torch
from torch import nn

from dmlstudy.compute.backbones.backbone import batchnorms
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError


def build_backbone(name, image_size):
    """The `Backbone` of a name for square images of ``image_size`` pixels.

    It is randomly initialised from torch's generator. Raises StudyError for an unknown name, or a size
    that the network cannot take.
    """
    return registry.backbone_module(name).build(name, image_size)


CPU = torch.device("cpu")
# On larger images no common network has maps that `small_maps` could compute faster.
SMALL_IMAGES = 128


def trim_small_maps(backbone, image_size, device=CPU):
    """Let a CPU compute convolutions on maps of a few pixels faster, where there can be any.

    ``backbone``: a module with its weights loaded, changed in place; it then takes images of that size
    only. Its state dict stays that of the plain network.
    """
    if device.type == "cpu" and image_size <= SMALL_IMAGES:
        from dmlstudy.compute.small_maps import trim_to

        trim_to(backbone, image_size)


class EmbeddingModel(nn.Module):
    """Backbone and head. Maps images (batch, 3, height, width) to embeddings (batch, dim), not normalised.

    ``backbone``: a `Backbone`, whose module is the model's ``backbone``; ``feature_dim``,
    ``preprocessing`` and ``map_layers`` are the `Backbone`'s. ``still``: BatchNorm layers that are always in eval mode. Raises
    StudyError if the backbone's BatchNorm is to be frozen and it has none.
    """

    def __init__(self, backbone, head, frozen_batchnorm=False):
        super().__init__()
        self.backbone = backbone.module
        self.feature_dim = backbone.feature_dim
        self.preprocessing = backbone.preprocessing
        self.map_layers = backbone.map_layers
        self.head = head
        self.still = []
        if frozen_batchnorm:
            self.still = batchnorms(self.backbone)
            if not self.still:
                raise StudyError(
                    "frozen_batchnorm: this backbone has no BatchNorm that could be frozen"
                )
            for module in self.still:
                module.requires_grad_(False)

    def train(self, mode=True):
        super().train(mode)
        for module in self.still:
            module.eval()
        return self

    def forward(self, images):
        return self.head(self.backbone(images))
