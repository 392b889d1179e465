"""Convolutions on maps of a few pixels as matrix products, which a CPU computes faster.

For images of 32 pixels, the last stage of a ResNet sees a map of one pixel. Eight of the nine taps of a
3×3 kernel then only multiply padding, but they are still read, get a gradient and are updated. That takes
more than half of a training step on a CPU. On maps of 2 × 2 pixels (the last stage at 64 pixels), torch's
convolution and its gradients take two to ten times as long as the equivalent matrix products. On maps of
4 × 4 pixels this is still true for the gradient of the kernel in bfloat16. Values and gradients equal
those of the full convolution; larger maps are not changed. benchmarks/small_maps.py measures the gain.
"""

import torch
from torch import nn
from torch.nn import functional

# Up to this many output pixels, matrix products are faster for a convolution and its gradients.
FEW = 4
# Up to this many, they are faster for the gradient of the kernel.
FEW_FOR_KERNELS = 16


class SinglePixelConv2d(nn.Module):
    """A 3×3 convolution with padding 1 whose output is a single pixel.

    ``weight`` holds the taps that reach the map, (out_channels, in_channels · height · width). The
    others get no gradient and do not change; ``state_dict`` holds the full kernel.
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


def _windows(images, kernel_size, stride, padding):
    """The inputs of a convolution's kernel at each position: (batch · height · width, taps).

    Taps are in the order of a channels-last kernel: row, column, channel.
    """
    (height, width), (down, right), (top, left) = kernel_size, stride, padding
    padded = functional.pad(images.permute(0, 2, 3, 1), (0, 0, left, left, top, top))
    windows = padded.unfold(1, height, down).unfold(2, width, right)
    return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, height * width * images.shape[1])


def _add_windows(windows, shape, kernel_size, stride, padding):
    """Images of ``shape`` in which each pixel is the sum of its taps in ``windows``: (…, taps).

    The transpose of `_windows`; ``windows`` is (batch, out_height, out_width, taps).
    """
    (batch, channels, height, width), (down, right), (top, left) = shape, stride, padding
    _, out_height, out_width, _ = windows.shape
    windows = windows.unflatten(3, (*kernel_size, channels))
    padded = windows.new_zeros(batch, height + 2 * top, width + 2 * left, channels)
    for row in range(kernel_size[0]):
        for column in range(kernel_size[1]):
            seen = padded[:, row::down, column::right][:, :out_height, :out_width]
            seen += windows[:, :, :, row, column]
    return padded[:, top : top + height, left : left + width].permute(0, 3, 1, 2)


class _SmallMapConvolution(torch.autograd.Function):
    """A convolution (no dilation, no groups, no bias) as matrix products.

    On maps of more than `FEW` pixels only the kernel's gradient is.
    """

    @staticmethod
    def forward(context, images, weight, stride, padding):
        context.save_for_backward(images, weight)
        context.stride, context.padding = stride, padding
        batch, _, *size = images.shape
        outs, _, *kernel_size = weight.shape
        height, width = (
            (pixels + 2 * around - taps) // step + 1
            for pixels, around, taps, step in zip(size, padding, kernel_size, stride, strict=True)
        )
        context.few = height * width <= FEW
        if not context.few:
            return functional.conv2d(images, weight, None, stride, padding)
        kernel = weight.permute(0, 2, 3, 1).flatten(1)
        places = _windows(images, kernel_size, stride, padding) @ kernel.t()
        return places.view(batch, height, width, outs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(context, gradient):
        images, weight = context.saved_tensors
        stride, padding = context.stride, context.padding
        outs, ins, *kernel_size = weight.shape
        # (batch, height, width, out_channels): in memory this is how a channels-last map lies.
        gradient = gradient.permute(0, 2, 3, 1)
        places = gradient.flatten(0, 2)
        for_images = for_weight = None
        if context.needs_input_grad[0] and context.few:
            kernel = weight.permute(0, 2, 3, 1).flatten(1)
            windows = (places @ kernel).view(*gradient.shape[:3], -1)
            for_images = _add_windows(windows, images.shape, kernel_size, stride, padding)
        elif context.needs_input_grad[0]:
            for_images = torch.nn.grad.conv2d_input(
                images.shape, weight, gradient.permute(0, 3, 1, 2), stride, padding
            )
        if context.needs_input_grad[1]:
            kernel = places.t() @ _windows(images, kernel_size, stride, padding)
            for_weight = kernel.view(outs, *kernel_size, ins).permute(0, 3, 1, 2)
        return for_images, for_weight, None, None


class SmallMapConv2d(nn.Conv2d):
    """A convolution with few output pixels. Its state is that of a plain convolution."""

    def forward(self, images):
        if images.device.type != "cpu":
            return super().forward(images)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            precision = torch.get_autocast_dtype("cpu")
            images, weight = images.to(precision), weight.to(precision)
        return _SmallMapConvolution.apply(images, weight, self.stride, self.padding)


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
        if (
            convolution.padding_mode != "zeros"
            or convolution.dilation != (1, 1)
            or convolution.groups != 1
        ):
            continue
        pixels = output.shape[-2] * output.shape[-1]
        usual = convolution.kernel_size == (3, 3) and convolution.padding == (1, 1)
        if usual and pixels == 1:
            network.set_submodule(name, SinglePixelConv2d(convolution, *images.shape[-2:]))
        elif pixels <= FEW_FOR_KERNELS and convolution.bias is None:
            network.set_submodule(name, _with_small_map(convolution))
