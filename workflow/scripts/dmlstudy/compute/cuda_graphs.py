"""Forward and backward passes of a model as CUDA graphs, which start hundreds of kernels with one call.

Without graphs the host needs longer to launch the kernels of a ResNet18 step than a large GPU needs to
run them.
"""

import torch
from torch import nn

from dmlstudy.compute.devices import autocast


class _InPrecision(nn.Module):
    """A model that always runs in its own precision, whatever autocast the caller uses."""

    def __init__(self, model, device, precision):
        super().__init__()
        self.model, self.device, self.precision = model, device, precision

    def forward(self, images):
        # No cache: a replayed graph would use weights that were cast during the capture.
        with autocast(self.device, self.precision, cache=False):
            return self.model(images)


class GraphedModel:
    """``model`` for training. Batches with the shape of ``sample`` use graphs, others run as usual.

    ``sample``: a full batch of images on the GPU; the graphs keep it as their input buffer. Capturing the
    graphs changes neither the model nor the state of random numbers.
    """

    def __init__(self, model, sample, precision):
        self.model, self.shape = model, sample.shape
        # Graphs are captured in a separate stream, and gradients are accumulated there. torch synchronises
        # the streams by itself; its warning is not needed.
        torch.autograd.graph.set_warn_on_accumulate_grad_stream_mismatch(False)
        before = [buffer.clone() for buffer in model.buffers()]
        with torch.random.fork_rng([sample.device]):
            step = _InPrecision(model, sample.device, precision)
            self.graphed = torch.cuda.make_graphed_callables(step, (sample,))
        # Undo the updates of BatchNorm's statistics from the warm-up of the capture.
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)

    def train(self):
        self.model.train()

    def __call__(self, images):
        return self.graphed(images) if images.shape == self.shape else self.model(images)
