"""Convolutions on maps of a few pixels, as products of matrices, where a CPU is slow at them.

On pictures of 32 pixels the last stage of a ResNet has one pixel to look at: of the nine taps of a
3×3 kernel eight only ever multiply padding, and yet they are read, given a gradient and updated,
which takes more than half of a training step on a CPU. On maps of 2 × 2 pixels (the last stage at 64
pixels) the gradient of a kernel takes three times as long as the product of matrices that it is. Values
and gradients here are those of the full convolution (benchmarks/small_maps.py measures what it saves);
larger maps are left as they are.
"""

import torch
from torch import nn
from torch.nn import functional

# Up to so many pixels of output a product of matrices gives the kernel's gradient sooner.
FEW = 4


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


class _KernelGradient(torch.autograd.Function):
    """A convolution (no dilation, no groups) whose kernel's gradient is one product of matrices."""

    @staticmethod
    def forward(context, images, weight, stride, padding):
        context.save_for_backward(images, weight)
        context.stride, context.padding = stride, padding
        return functional.conv2d(images, weight, None, stride, padding)

    @staticmethod
    def backward(context, gradient):
        images, weight = context.saved_tensors
        (down, right), padding = context.stride, context.padding
        for_images = for_weight = None
        if context.needs_input_grad[0]:
            for_images = torch.nn.grad.conv2d_input(
                images.shape, weight, gradient, context.stride, padding
            )
        if context.needs_input_grad[1]:
            outs, ins, height, width = weight.shape
            places = gradient.permute(0, 2, 3, 1).flatten(0, 2)
            top, left = padding
            padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
            windows = padded.unfold(1, height, down).unfold(2, width, right)
            # (places, taps): pixels of a window side by side, as they lie in a channels-last kernel.
            taps = windows.permute(0, 1, 2, 4, 5, 3).reshape(len(places), -1)
            for_weight = (places.t() @ taps).view(outs, height, width, ins).permute(0, 3, 1, 2)
        return for_images, for_weight, None, None


class SmallMapConv2d(nn.Conv2d):
    """A convolution whose output has a few pixels, at most `FEW`. Its state is a plain one's."""

    def forward(self, images):
        # Elsewhere, and in bfloat16, the usual kernels are as fast.
        if images.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(images)
        return _KernelGradient.apply(images, self.weight, self.stride, self.padding)


def _with_small_map(convolution):
    """`SmallMapConv2d` with the weights of a convolution."""
    small = SmallMapConv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        convolution.stride,
        convolution.padding,
        bias=False,
        device="meta",
    )
    small.weight = convolution.weight
    return small.train(convolution.training)


def trim_to(network, image_size):
    """Replace, in place, the convolutions of ``network`` that see few pixels of square images.

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
        pixels = output.shape[-2] * output.shape[-1]
        if usual and pixels == 1:
            network.set_submodule(name, SinglePixelConv2d(convolution, *images.shape[-2:]))
        elif usual and pixels <= FEW and convolution.bias is None:
            network.set_submodule(name, _with_small_map(convolution))
