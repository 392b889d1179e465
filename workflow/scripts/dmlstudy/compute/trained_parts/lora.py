"""Low-rank changes of a transformer's linear layers train: LoRA (Hu et al., ICLR 2022).

The backbone's own weights do not train. Each linear layer W of the attention, and of the MLPs, becomes
W + alpha / rank · B A with A (rank, in) and B (out, rank). B starts at 0, so that training starts from W.
When the training ends, W + alpha / rank · B A is written into W: what is stored is a plain backbone.
"""

import re
from typing import Annotated, Literal

from torch import nn

from dmlstudy.compute.trained_parts.choosing import train_only
from dmlstudy.compute.trained_parts.low_rank import LowRankLinear
from dmlstudy.core.files import StudyError

# Linear layers as timm names them: blocks.0.attn.qkv, blocks.0.mlp.fc1, attn_pool.proj.
ATTENTION = re.compile(r"(^|\.)attn(_pool)?\.\w+$")
MLP = re.compile(r"(^|\.)mlp\.\w+$")


def build(
    backbone,
    *,
    rank: Annotated[int, ">= 1, <= 1024", "rank of the changes"] = 8,
    alpha: Annotated[float, "> 0, <= 100000", "changes are scaled by alpha / rank"] = 16.0,
    layers: Annotated[
        Literal["attention", "attention_and_mlp"], "", "which linear layers change"
    ] = "attention_and_mlp",
):
    """Give the linear layers of a `Backbone` changes that train, in place; A is drawn from torch's generator.

    Returns the BatchNorm layers, which stay in eval mode. Raises StudyError if the backbone has no
    attention made of linear layers.
    """
    chosen = linear_layers(backbone.module, layers)
    if not chosen:
        raise StudyError(
            "trained_parts: this backbone has no attention layers that lora could change"
        )
    for name in chosen:
        plain = backbone.module.get_submodule(name)
        backbone.module.set_submodule(name, LowRankLinear(plain, rank, alpha))
    return train_only(backbone, [f"{name}.{part}" for name in chosen for part in ("down", "up")])


def linear_layers(module, layers):
    """Names of the linear layers that change; empty if there is none in an attention."""
    linear = [name for name, one in module.named_modules() if isinstance(one, nn.Linear)]
    attention = [name for name in linear if ATTENTION.search(name)]
    if not attention or layers == "attention":
        return attention
    return [name for name in linear if ATTENTION.search(name) or MLP.search(name)]
