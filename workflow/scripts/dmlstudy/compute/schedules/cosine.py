"""Cosine decay of the learning rate to zero (Loshchilov, Hutter, ICLR 2017)."""

import math
from typing import Annotated

from torch.optim.lr_scheduler import LambdaLR


def build(
    optimizer,
    epochs,
    *,
    warmup: Annotated[int, ">= 0, <= 1000000", "epochs with a linearly rising learning rate"] = 0,
):
    """Scheduler, stepped once per epoch. The rate rises linearly in ``warmup`` epochs, then decays."""

    def factor(epoch):
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        done = (epoch - warmup) / max(1, epochs - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)
