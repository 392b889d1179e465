"""Any of torchvision's classifiers without its classifier: ``torchvision/NAME[.WEIGHTS]``.

WEIGHTS names published weights, such as IMAGENET1K_V2. Without it they are IMAGENET1K_V1, the
original ones, or torchvision's default where there is no such version.
"""

from functools import partial
from itertools import takewhile

import torch
import torchvision
from torch import nn
from torchvision.models import vision_transformer

from dmlstudy.compute.backbones.backbone import (
    Backbone,
    MapLayers,
    Preprocessing,
    blocks_at,
    check_patches,
    pooled_width,
    unknown,
)
from dmlstudy.compute.batches import MEAN, STD
from dmlstudy.core.files import StudyError
from dmlstudy.data.weights import torchvision_weights

# Attributes that hold a network's classifier, and prefixes of classifiers at earlier layers.
CLASSIFIERS = ("fc", "classifier", "head", "heads")
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")
# Modules that hold a network's blocks.
BLOCKS = ("features", "encoder.layers", "trunk_output", "layers", "blocks")
# With their published weights, these two networks convert ImageNet's normalisation to their own.
INCEPTION = {"aux_logits": False, "transform_input": True, "init_weights": True}


def build(name, image_size):
    """`Backbone` of a name, randomly initialised from torch's generator.

    Raises StudyError for a name that torchvision does not know, or a size that the network cannot take.
    """
    model, _ = _parts(name)
    options = _options(name, model, image_size)

    def make():
        # RegNets compute their widths with tensors, so that they cannot be built without memory.
        home = torch.device("cpu") if model.startswith("regnet") else torch.get_default_device()
        with home:
            network = torchvision.models.get_model(model, weights=None, **options)
        return _without_classifier(network).to(torch.get_default_device())

    width = pooled_width(make, name, image_size)
    network = make()
    transformer = isinstance(network, vision_transformer.VisionTransformer)
    attribute = next(each for each in CLASSIFIERS if hasattr(network, each))
    return Backbone(
        network,
        width,
        _preprocessing(name),
        _token_layers(network) if transformer else MapLayers(),
        classifier=(f"{attribute}.", *AUXILIARY),
        adapt=partial(_resampled, network) if transformer else lambda state: state,
        blocks=_blocks(network),
    )


def published(name):
    """`WebWeights` of a name; StudyError where torchvision publishes none."""
    weights = _weights(name)
    if weights is None:
        raise StudyError(f"{name}: torchvision publishes no weights of this network")
    return torchvision_weights(weights)


def _parts(name):
    """(torchvision's name, name of its weights or ""); StudyError for an unknown name."""
    model, _, version = name.removeprefix("torchvision/").partition(".")
    known = torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        raise unknown(name, [f"torchvision/{each}" for each in known])
    return model, version


def _weights(name):
    """Entry of torchvision's table of weights, or None where it is empty."""
    model, version = _parts(name)
    known = torchvision.models.get_model_weights(model).__members__
    if version and version not in known:
        choice = ", ".join(known) or "none"
        raise StudyError(f"{name}: torchvision has no weights {version!r} of it; it has: {choice}")
    for choice in (version, "IMAGENET1K_V1", "DEFAULT"):
        if choice in known:
            return known[choice]
    return None


def _preprocessing(name):
    weights = _weights(name)
    if weights is None:
        return Preprocessing(MEAN, STD, "bilinear", 224)
    wanted = weights.transforms()
    (side,) = set(wanted.crop_size)
    return Preprocessing(tuple(wanted.mean), tuple(wanted.std), wanted.interpolation.value, side)


def _options(name, model, image_size):
    """Arguments that a network's constructor needs."""
    if model in ("inception_v3", "googlenet"):
        return INCEPTION
    if model.startswith("maxvit"):
        return {"input_size": (image_size, image_size)}
    if model.startswith("vit_"):
        with torch.device("meta"):
            patch_size = torchvision.models.get_model(model, weights=None).patch_size
        check_patches(name, patch_size, image_size)
        return {"image_size": image_size}
    return {}


def _without_classifier(network):
    """``network`` in place, without its classifier from the first linear layer or convolution on.

    A normalisation of the pooled features before it stays (ConvNeXt, MaxViT). Where the classifier
    takes a whole map (VGG, AlexNet, SqueezeNet) the features are the map's mean.
    """
    attribute = next(each for each in CLASSIFIERS if hasattr(network, each))
    layers = getattr(network, attribute)
    layers = list(layers) if isinstance(layers, nn.Sequential) else [layers]
    layers = [layer for layer in layers if not isinstance(layer, nn.Dropout)]
    kept = list(takewhile(lambda layer: not isinstance(layer, (nn.Linear, nn.Conv2d)), layers))
    if isinstance(network, torchvision.models.SqueezeNet):
        kept = [nn.AdaptiveAvgPool2d(1)]
    if isinstance(getattr(network, "avgpool", None), nn.AdaptiveAvgPool2d):
        network.avgpool = nn.AdaptiveAvgPool2d(1)
    setattr(network, attribute, nn.Sequential(*kept) if kept else nn.Identity())
    return network


def _blocks(network):
    """`Backbone.blocks`: the parts of the module that holds them, or the network's own parts."""
    known = dict(network.named_modules())
    holder = next((name for name in BLOCKS if name in known), "")
    parts = [(f"{holder}.{part}".lstrip("."), one) for part, one in known[holder].named_children()]
    # Where parts have parts of their own, single layers beside them, such as a first convolution, are
    # no blocks. VGG and AlexNet have layers only.
    compound = [name for name, one in parts if any(True for _ in one.children())]
    return blocks_at(network, compound or [name for name, _ in parts])


def _token_layers(network):
    """The input of the last attention: only the class token of the last block's output is used."""
    return MapLayers((f"encoder.layers.encoder_layer_{len(network.encoder.layers) - 1}.ln_1",), 1)


def _resampled(network, state):
    """Position embeddings at the network's grid, by torchvision's function."""
    if getattr(state.get("encoder.pos_embedding"), "ndim", None) != 3:
        return state
    try:
        # The function changes its argument.
        return vision_transformer.interpolate_embeddings(
            network.image_size, network.patch_size, dict(state)
        )
    except ValueError as error:
        raise StudyError(f"position embeddings cannot be resampled: {error}") from None
