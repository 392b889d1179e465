"""Stochastic gradient descent."""

import torch


def build(parameters, *, lr: float = 0.001, momentum: float = 0.0, weight_decay: float = 0.0):
    """Optimizer over parameter groups; the defaults are the study's."""
    return torch.optim.SGD(
        parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
    )
