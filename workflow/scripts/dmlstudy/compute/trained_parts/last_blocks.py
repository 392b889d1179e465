"""The last blocks of the backbone train, with what follows them.

A block is a stage of a ResNet, ConvNeXt or Swin, a block of a vision transformer, or a part of
torchvision's ``features``. What stands before is a fixed function: no gradient is computed for it.
"""

from typing import Annotated

from dmlstudy.compute.trained_parts.choosing import train_only
from dmlstudy.core.files import StudyError


def build(
    backbone,
    *,
    blocks: Annotated[int, ">= 1, <= 1000", "how many of the last blocks train"] = 1,
):
    """Choose the weights of a `Backbone` that train, in place.

    Returns the BatchNorm layers that stay in eval mode, since their weights do not train. Raises
    StudyError if the backbone has fewer blocks, or none that are known.
    """
    known = len(backbone.blocks)
    if blocks > known:
        raise StudyError(
            f"trained_parts.blocks: is {blocks}, but this backbone has {known}"
            if known
            else "trained_parts: it is not known which blocks this backbone has"
        )
    return train_only(backbone, [name for block in backbone.blocks[-blocks:] for name in block])
