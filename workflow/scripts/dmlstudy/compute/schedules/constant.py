"""A constant learning rate, with an optional warm-up."""

from typing import Annotated

from torch.optim.lr_scheduler import LambdaLR


def build(
    optimizer,
    epochs,
    *,
    warmup: Annotated[int, ">= 0, <= 1000000", "epochs with a linearly rising learning rate"] = 0,
):
    """Scheduler, stepped once per epoch. The rate rises linearly during the first ``warmup`` epochs."""
    return LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / (warmup + 1)))
