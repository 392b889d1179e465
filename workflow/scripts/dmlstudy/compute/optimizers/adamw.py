"""AdamW: Adam with decoupled weight decay (Loshchilov, Hutter, ICLR 2019).

Biases and the weights of normalisation layers do not decay.
"""

from typing import Annotated

import torch


def build(
    parameters,
    *,
    lr: Annotated[float, "> 0, <= 1000", "learning rate"] = 0.001,
    weight_decay: Annotated[float, ">= 0, <= 1000", "weight decay"] = 0.01,
):
    """Optimizer over parameter groups; the defaults are torch's.

    Each group becomes two: weights that decay, and those with one dimension longer than 1 at most, which
    do not: biases, normalisation, layer scales, class tokens.
    """
    groups = []
    for group in parameters:
        vectors = [p for p in group["params"] if max(p.shape, default=1) == p.numel()]
        apart = {id(p) for p in vectors}
        decaying = [p for p in group["params"] if id(p) not in apart]
        groups += [{**group, "params": decaying}] if decaying else []
        groups += [{**group, "params": vectors, "weight_decay": 0.0}] if vectors else []
    return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)
