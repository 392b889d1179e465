"""A learning rate that falls by a factor every few epochs."""

from torch.optim.lr_scheduler import StepLR


def build(optimizer, epochs, *, every: int = 30, factor: float = 0.1):
    """Scheduler, stepped once per epoch: times ``factor`` after each ``every`` epochs."""
    return StepLR(optimizer, step_size=every, gamma=factor)
