"""Which weights of a backbone train."""

from dmlstudy.compute.backbones.backbone import batchnorms
from dmlstudy.core.files import StudyError


def train_only(backbone, names):
    """Let no weights of a `Backbone` train but those whose names are in ``names``.

    Weights that did not train before stay as they are. Returns the BatchNorm layers without a weight
    that trains: they must keep their statistics, so they belong in eval mode. Raises StudyError if
    nothing trains.
    """
    names = set(names)
    for name, parameter in backbone.module.named_parameters():
        if name not in names:
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in backbone.module.parameters()):
        raise StudyError(
            "trained_parts: no weight of the backbone would train; with frozen_batchnorm, choose "
            "parts that have more than BatchNorm"
        )
    return [
        layer
        for layer in batchnorms(backbone.module)
        if not any(parameter.requires_grad for parameter in layer.parameters())
    ]
