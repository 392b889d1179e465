"""Step decay: the learning rate is multiplied by a factor every few epochs."""

from torch.optim.lr_scheduler import StepLR


def build(optimizer, epochs, *, every: int = 30, factor: float = 0.1):
    """Scheduler, stepped once per epoch: multiplies the rate by ``factor`` every ``every`` epochs."""
    return StepLR(optimizer, step_size=every, gamma=factor)
