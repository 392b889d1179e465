"""Two random views of each image (Chen et al., ICML 2020), computed for whole batches on the device.

The distribution is that of lightly's SimCLRViewTransform, drawn independently for each view: resized
crop, flip, colour jitter in random order, grey, blur. Colours (except hue) and blur are kornia's. Crops
are resized by multiplication with matrices of Pillow's antialiasing weights. All random numbers are
drawn on the CPU.
"""

import math
from typing import Annotated, NamedTuple

import torch
from kornia.color import rgb_to_grayscale
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import gaussian_blur2d

from dmlstudy.compute.devices import send

TRAIN_RESIZE = ("shorter", "margin")
TEST_RESIZE = ("shorter", "exact")
# Views of each image in a batch.
VIEWS = 2

# Fixed in lightly's transform: aspect ratios of a crop, probabilities, strengths, blur in pixels.
RATIOS = (3 / 4, 4 / 3)
ATTEMPTS = 10
JITTER_PROBABILITY, GREY_PROBABILITY = 0.8, 0.2
BRIGHTNESS = CONTRAST = SATURATION = 0.8
HUE = 0.2
SIGMAS = (0.1, 2.0)
# Three standard deviations of the widest blur to either side.
BLUR_SIZE = 13
# Pixels to process at a time, so that they fit into the caches of a CPU or the memory of a GPU.
CHUNK = {"cpu": 2**20, "cuda": 2**26}


# A channel has this share of the chroma: slope · |hue − centre| + begin, clipped to 0…1; hue in sixths of a
# turn. Each tuple is (centre, slope, begin).
RED, GREEN, BLUE = (3, 1, -1), (2, -1, 2), (4, -1, 2)


def _hue(images, factors):
    """kornia's adjust_hue, three times as fast, because no HSV image is made.

    ``images`` (n, 3, height, width); ``factors``: rotation of the hue in turns. Uses hexagonal hue and
    chroma (Smith, SIGGRAPH 1978); a rotation of the hue does not change the chroma.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - lowest
    # Hue in sixths of a turn, starting at red; multiplied by the chroma until the division below.
    hue = torch.where(
        value == red,
        green - blue,
        torch.where(
            value == green,
            (blue - red).add_(chroma, alpha=2),
            (red - green).add_(chroma, alpha=4),
        ),
    )
    hue.mul_(chroma.masked_fill(chroma == 0, 1).reciprocal_()).add_(6 * factors.view(-1, 1, 1))
    hue.sub_((hue / 6).floor_(), alpha=6)
    result = torch.empty_like(images)
    for channel, (centre, slope, begin) in enumerate((RED, GREEN, BLUE)):
        share = (hue - centre).abs_().mul_(slope).add_(begin).clamp_(0, 1)
        torch.addcmul(lowest, share, chroma, out=result[:, channel])
    return result


COLOURS = (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
    _hue,
)


class Views(NamedTuple):
    """Random numbers for ``n`` views, on the CPU. Crops are int64, in pixels.

    ``order`` (n, 4): the order of the functions in `COLOURS`; ``factors`` (n, 4): their strengths.
    """

    tops: torch.Tensor
    lefts: torch.Tensor
    heights: torch.Tensor
    widths: torch.Tensor
    mirrored: torch.Tensor
    jittered: torch.Tensor
    order: torch.Tensor
    factors: torch.Tensor
    grey: torch.Tensor
    blurred: torch.Tensor
    sigmas: torch.Tensor


def draw(heights, widths, generator, *, jitter_strength, min_scale, blur_probability):
    """Draw `Views` for images with these sizes in pixels, int64 tensors (n,)."""
    count = len(heights)

    def uniform(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    # As torchvision's RandomResizedCrop: the first of ten attempts that fits, else a centre crop.
    shares = min_scale + (1 - min_scale) * uniform(ATTEMPTS, count)
    low, high = map(math.log, RATIOS)
    ratios = torch.exp(low + (high - low) * uniform(ATTEMPTS, count))
    areas = shares * (heights * widths)
    tried = torch.stack([(areas / ratios).sqrt(), (areas * ratios).sqrt()]).round().long()
    fit = ((tried > 0) & (tried <= torch.stack([heights, widths])[:, None])).all(dim=0)
    first = fit.int().argmax(dim=0)
    crop_heights, crop_widths = tried[:, first, torch.arange(count)]
    none = ~fit.any(dim=0)
    whole_heights = torch.minimum(heights, (widths / RATIOS[0]).round().long())
    whole_widths = torch.minimum(widths, (heights * RATIOS[1]).round().long())
    crop_heights = torch.where(none, whole_heights, crop_heights)
    crop_widths = torch.where(none, whole_widths, crop_widths)
    places = uniform(2, count)
    tops = torch.where(
        none, (heights - crop_heights) // 2, (places[0] * (heights - crop_heights + 1)).long()
    )
    lefts = torch.where(
        none, (widths - crop_widths) // 2, (places[1] * (widths - crop_widths + 1)).long()
    )

    strengths = jitter_strength * torch.tensor(
        [BRIGHTNESS, CONTRAST, SATURATION, HUE], dtype=torch.float64
    )
    centres = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    lowest = torch.maximum(centres - strengths, torch.tensor([0.0, 0.0, 0.0, -math.inf]))
    factors = lowest + (centres + strengths - lowest) * uniform(count, 4)
    return Views(
        tops,
        lefts,
        crop_heights,
        crop_widths,
        mirrored=uniform(count) < 0.5,
        jittered=uniform(count) < JITTER_PROBABILITY,
        order=uniform(count, 4).argsort(dim=1),
        factors=factors.float(),
        grey=uniform(count) < GREY_PROBABILITY,
        blurred=uniform(count) < blur_probability,
        sigmas=(SIGMAS[0] + (SIGMAS[1] - SIGMAS[0]) * uniform(count)).float(),
    )


def _weights(begins, lengths, size, window, mirrored=None):
    """Matrices (n, size, window) that resize ``lengths`` pixels, starting at ``begins``, to ``size`` pixels.

    These are Pillow's bilinear weights: a triangle as wide as a target pixel, but at least a source
    pixel, clipped at the edges of the crop.
    """
    begins, lengths = (values.view(-1, 1, 1).float() for values in (begins, lengths))
    scales = lengths / size
    line = torch.arange(max(size, window), device=lengths.device) + 0.5
    centres = line[:size, None] * scales
    places = line[None, :window] - begins
    weights = (1 - (places - centres).abs() / scales.clamp(min=1)).clamp_(min=0)
    weights *= (places > 0) & (places < lengths)
    weights /= weights.sum(dim=2, keepdim=True)
    return weights if mirrored is None else torch.where(mirrored, weights.flip(1), weights)


def resized(images, rows, views):
    """The crops of ``views``, resized and mirrored: float32 (n, 3, size, size) in 0…1."""
    result = torch.empty(len(rows), 3, images.size, images.size, device=images.device)
    # Process crops of similar size together, so that few unused pixels are read.
    order = views.widths.argsort(stable=True)
    largest = int(views.heights.max() * views.widths.max())
    for chosen in order.split(max(1, CHUNK[images.device.type] // largest)):
        height, width = int(views.heights[chosen].max()), int(views.widths[chosen].max())
        pixels, down, right = images.windows(
            rows[chosen], views.tops[chosen], views.lefts[chosen], height, width
        )
        numbers = torch.stack(
            [down, views.heights[chosen], right, views.widths[chosen], views.mirrored[chosen]]
        )
        down, heights, right, widths, mirrored = send(numbers, images.device)
        vertical = _weights(down, heights, images.size, height)
        horizontal = _weights(right, widths, images.size, width, mirrored.bool().view(-1, 1, 1))
        lines = torch.bmm(vertical / 255, pixels.flatten(2).float())
        lines = lines.view(-1, images.size, width, 3).permute(0, 3, 1, 2).flatten(1, 2)
        crops = torch.bmm(lines, horizontal.transpose(1, 2))
        result[send(chosen, images.device)] = crops.view(-1, 3, images.size, images.size)
    return result


def coloured(images, views):
    """Apply jitter, grey and blur of ``views`` to ``images`` in place; values stay in 0…1."""
    at_a_time = max(1, CHUNK[images.device.type] // images[0, 0].numel())

    def change(chosen, function, *numbers):
        """Apply ``function`` to the chosen images."""
        for rows in chosen.nonzero()[:, 0].split(at_a_time):
            if len(rows):
                places = send(rows, images.device)
                images[places] = function(images[places], *(values[places] for values in numbers))

    factors, sigmas = (send(values, images.device) for values in (views.factors, views.sigmas))
    for position in range(len(COLOURS)):
        for number, function in enumerate(COLOURS):
            chosen = views.jittered & (views.order[:, position] == number)
            change(chosen, function, factors[:, number])
    change(views.grey, lambda chosen: rgb_to_grayscale(chosen).expand(-1, 3, -1, -1))
    change(views.blurred, _blur, sigmas[:, None].expand(-1, 2))
    return images


def _blur(images, sigmas):
    return gaussian_blur2d(images, BLUR_SIZE, sigmas, border_type="replicate")


def build(
    images,
    *,
    jitter_strength: Annotated[float, ">= 0, <= 1.25", "strength of the color jitter"] = 1.0,
    min_scale: Annotated[
        float, "> 0, <= 1", "smallest share of the image that a crop covers"
    ] = 0.08,
    blur_probability: Annotated[float, ">= 0, <= 1", "probability of Gaussian blur"] = 0.5,
):
    """Function (rows, generator) → views (2 · batch, 3, size, size): all first, then all second views."""

    def views(rows, generator):
        rows = rows.repeat(VIEWS)
        drawn = draw(
            images.heights[rows],
            images.widths[rows],
            generator,
            jitter_strength=jitter_strength,
            min_scale=min_scale,
            blur_probability=blur_probability,
        )
        with torch.no_grad():
            return images.normalise(coloured(resized(images, rows, drawn), drawn))

    return views
