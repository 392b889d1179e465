"""Only the normalisation layers of the backbone train: their scales and shifts (Frankle et al., ICLR 2021).

BatchNorm layers also update their statistics, as they do when everything trains.
"""

import re

from dmlstudy.compute.trained_parts.choosing import train_only
from dmlstudy.core.files import StudyError

# Classes of torch, torchvision and timm: BatchNorm2d, LayerNorm, RmsNorm, BatchNormAct2d, GroupNorm1.
NORMALISATION = re.compile(r"Norm(Act)?\d?d?$")


def build(backbone):
    """Choose the weights of a `Backbone` that train, in place.

    Returns the BatchNorm layers that stay in eval mode: those that `frozen_batchnorm` holds. Raises
    StudyError if no normalisation layer has weights.
    """
    names = norm_weights(backbone.module)
    if not names:
        raise StudyError("trained_parts: this backbone has no normalisation layers with weights")
    return train_only(backbone, names)


def norm_weights(module):
    """Names of the parameters of a module's normalisation layers."""
    return [
        f"{name}.{own}"
        for name, layer in module.named_modules()
        if NORMALISATION.search(type(layer).__name__)
        for own, _ in layer.named_parameters(recurse=False)
    ]
