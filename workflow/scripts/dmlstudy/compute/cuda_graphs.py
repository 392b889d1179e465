"""A model's forward and backward passes as CUDA graphs: the host starts hundreds of kernels in one call.

Kernel by kernel, a host needs longer to start a step of a ResNet18 than a large GPU needs to do it.
"""

import torch
from torch import nn

from dmlstudy.compute.devices import autocast


class _InPrecision(nn.Module):
    """A model in its precision, whatever the caller's autocast is."""

    def __init__(self, model, device, precision):
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, images):
        # Weights that were cast once and kept would not be cast again when a graph is replayed.
        with autocast(self.device, self.precision, cache=False):
            return self.model(images)


class GraphedModel:
    """``model`` for training: batches like ``sample`` go through graphs, others as they always did.

    ``sample``: a whole batch of images on the GPU, which becomes the graphs' own. Neither the model nor
    random numbers are changed by making the graphs.
    """

    def __init__(self, model, sample, precision):
        self.model, self.shape = model, sample.shape
        # A capture runs in a stream of its own, and gradients are added up there ever after. torch orders the
        # two by itself, and would have us know.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        before = [buffer.clone() for buffer in model.buffers()]
        with torch.random.fork_rng([sample.device]):
            step = _InPrecision(model, sample.device, precision)
            self.graphed = torch.cuda.make_graphed_callables(step, (sample,))
        # BatchNorm has seen the sample while the capture was warming up.
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)

    def train(self):
        self.model.train()

    def __call__(self, images):
        return self.graphed(images) if images.shape == self.shape else self.model(images)
