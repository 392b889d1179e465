"""Step decay: the learning rate is multiplied by a factor every few epochs."""

from typing import Annotated

from torch.optim.lr_scheduler import StepLR


def build(
    optimizer,
    epochs,
    *,
    every: Annotated[int, "> 0, <= 1000000", "epochs between two steps"] = 30,
    factor: Annotated[float, "> 0, <= 1", "factor on the learning rate at each step"] = 0.1,
):
    """Scheduler, stepped once per epoch: multiplies the rate by ``factor`` every ``every`` epochs."""
    return StepLR(optimizer, step_size=every, gamma=factor)
