"""A linear layer with a low-rank change that trains, and writing the change into its weights."""

import math

import torch
from torch import nn
from torch.nn import functional


class LowRankLinear(nn.Module):
    """``plain`` (an ``nn.Linear``) plus alpha / rank · B A: LoRA (Hu et al., ICLR 2022).

    ``down``: A (rank, in), drawn as torch draws a linear layer's weights; ``up``: B (out, rank), 0 at
    the start. The product is not formed in training, so that no gradient of the whole matrix is computed.
    """

    def __init__(self, plain, rank, alpha):
        super().__init__()
        self.plain, self.scale = plain, alpha / rank
        self.down = nn.Parameter(plain.weight.new_empty(rank, plain.in_features))
        self.up = nn.Parameter(plain.weight.new_zeros(plain.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    # Some attentions use weight and bias of their layers themselves.
    @property
    def weight(self):
        return self.plain.weight + self.scale * (self.up @ self.down)

    @property
    def bias(self):
        return self.plain.bias

    def forward(self, values):
        change = functional.linear(functional.linear(values, self.down), self.up)
        return self.plain(values) + self.scale * change

    def merged(self):
        """The plain layer, with the change in its weights."""
        with torch.no_grad():
            self.plain.weight.copy_(self.weight)
        return self.plain


def merge(module):
    """Write all low-rank changes into the weights of the layers that they change, in place."""
    changed = [name for name, one in module.named_modules() if isinstance(one, LowRankLinear)]
    for name in changed:
        module.set_submodule(name, module.get_submodule(name).merged())
