"""Convolutions on maps of one pixel, as products of matrices.

On pictures of 32 pixels the last stage of a ResNet has one pixel to look at: of the nine taps of a
3×3 kernel eight only ever multiply padding, and yet they are read, given a gradient and updated,
which takes more than half of a training step on a CPU. Values and gradients here are those of the full
convolution (benchmarks/small_maps.py measures what it saves); larger pictures are left as they are.
"""

import torch
from torch import nn
from torch.nn import functional


class SinglePixelConv2d(nn.Module):
    """A 3×3 convolution with padding 1 whose output is a single pixel.

    ``weight`` holds the taps that reach the map, (out_channels, in_channels · height · width). The
    others have no gradient and stay as they are; ``state_dict`` holds the full kernel.
    """

    def __init__(self, convolution, height, width):
        super().__init__()
        self.size = (height, width)
        self.reach = (..., slice(1, 1 + height), slice(1, 1 + width))
        self.bias = convolution.bias
        kernel = convolution.weight.detach()
        self.weight = nn.Parameter(kernel[self.reach].flatten(1).contiguous())
        self.register_buffer("kernel", kernel.contiguous().clone(), persistent=False)

    def forward(self, images):
        if images.shape[-2:] != self.size:
            raise ValueError(
                f"this model was made for maps of {self.size}, not {tuple(images.shape[-2:])}; "
                "load its weights into a plain network for images of another size"
            )
        return functional.linear(images.flatten(1), self.weight, self.bias)[:, :, None, None]

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        kernel = self.kernel.clone()
        kernel[self.reach] = self.weight.detach().unflatten(1, (-1, *self.size))
        destination[f"{prefix}weight"] = kernel

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        kernel = state_dict.get(f"{prefix}weight")
        if kernel is not None and kernel.shape == self.kernel.shape:
            self.kernel.copy_(kernel.detach())
            reaching = kernel[self.reach].flatten(1)
            state_dict = {**state_dict, f"{prefix}weight": reaching}
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def trim_to(network, image_size):
    """Replace, in place, the convolutions of ``network`` that see one pixel of square images.

    Weights must have been loaded before. The network then takes images of that size only.
    """
    seen = {}

    def note(name):
        return lambda module, inputs, output: seen.update({name: (inputs[0], output)})

    handles = [
        module.register_forward_hook(note(name))
        for name, module in network.named_modules()
        if type(module) is nn.Conv2d
    ]
    training = network.training
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, image_size, image_size))
    network.train(training)
    for handle in handles:
        handle.remove()
    for name, (images, output) in seen.items():
        convolution = network.get_submodule(name)
        usual = (
            convolution.kernel_size == (3, 3)
            and convolution.padding == (1, 1)
            and convolution.padding_mode == "zeros"
            and convolution.dilation == (1, 1)
            and convolution.groups == 1
        )
        if usual and output.shape[-2:] == (1, 1):
            network.set_submodule(name, SinglePixelConv2d(convolution, *images.shape[-2:]))
