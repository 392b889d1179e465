"""Adam (Kingma, Ba, ICLR 2015)."""

import torch


def build(parameters, *, lr: float = 0.001, weight_decay: float = 0.0):
    """Optimizer over parameter groups; the defaults are the study's."""
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=True)
