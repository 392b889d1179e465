"""Adam (Kingma, Ba, ICLR 2015)."""

from typing import Annotated

import torch


def build(
    parameters,
    *,
    lr: Annotated[float, "> 0, <= 1000", "learning rate"] = 0.001,
    weight_decay: Annotated[float, ">= 0, <= 1000", "weight decay"] = 0.0,
):
    """Optimizer over parameter groups; the defaults are the study's."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
