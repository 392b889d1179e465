"""A learning rate that falls to zero along half a cosine (Loshchilov, Hutter, ICLR 2017)."""

import math
from typing import Annotated

from torch.optim.lr_scheduler import LambdaLR


def build(
    optimizer,
    epochs,
    *,
    warmup: Annotated[int, ">= 0", "epochs with a linearly rising learning rate"] = 0,
):
    """Scheduler, stepped once per epoch; ``warmup`` epochs rise linearly before the fall."""

    def factor(epoch):
        if epoch < warmup:
            return (epoch + 1) / (warmup + 1)
        done = (epoch - warmup) / max(1, epochs - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    return LambdaLR(optimizer, factor)
