"""A learning rate that stays, after a warm-up if asked for."""

from typing import Annotated

from torch.optim.lr_scheduler import LambdaLR


def build(
    optimizer,
    epochs,
    *,
    warmup: Annotated[int, ">= 0", "epochs with a linearly rising learning rate"] = 0,
):
    """Scheduler, stepped once per epoch; ``warmup`` epochs rise linearly before."""
    return LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / (warmup + 1)))
