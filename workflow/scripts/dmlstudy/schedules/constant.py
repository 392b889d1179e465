"""A learning rate that stays."""

from torch.optim.lr_scheduler import LambdaLR


def build(optimizer, epochs):
    """Scheduler, stepped once per epoch."""
    return LambdaLR(optimizer, lambda epoch: 1.0)
