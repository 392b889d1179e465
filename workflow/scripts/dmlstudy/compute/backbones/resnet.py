"""The study's own backbones: torchvision's ResNets, with ImageNet weights of version 1."""

import torchvision
from torch import nn

from dmlstudy.compute.backbones.backbone import (
    Backbone,
    MapLayers,
    Preprocessing,
    blocks_at,
    unknown,
)
from dmlstudy.compute.batches import MEAN, STD
from dmlstudy.data.weights import torchvision_weights

# Planning reads these without importing torch.
INTERPOLATION = "bilinear"
BATCHNORM = True
FEATURE_DIM = {"resnet18": 512, "resnet50": 2048}

# What `trained_parts` can choose of them.
PARTS = {"blocks": 4, "normalisation": True, "lora": False}

STAGES = ("layer1", "layer2", "layer3", "layer4")


def build(name, image_size):
    """`Backbone` of ``resnet18`` or ``resnet50``, randomly initialised from torch's generator.

    It takes images of any size. Raises StudyError for another name.
    """
    if name not in FEATURE_DIM:
        raise unknown(name, FEATURE_DIM)
    network = getattr(torchvision.models, name)(weights=None)
    network.fc = nn.Identity()
    return Backbone(
        network,
        FEATURE_DIM[name],
        Preprocessing(MEAN, STD, INTERPOLATION, 224),
        MapLayers(STAGES),
        classifier=("fc.",),
        blocks=blocks_at(network, STAGES),
    )


def published(name):
    """`WebWeights` of the ImageNet weights, version 1. Raises StudyError for another name."""
    if name not in FEATURE_DIM:
        raise unknown(name, FEATURE_DIM)
    return torchvision_weights(torchvision.models.get_model_weights(name).IMAGENET1K_V1)
