"""A constant learning rate, with an optional warm-up."""

from torch.optim.lr_scheduler import LambdaLR


def build(optimizer, epochs, *, warmup: int = 0):
    """Scheduler, stepped once per epoch. The rate rises linearly during the first ``warmup`` epochs."""
    return LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / (warmup + 1)))
