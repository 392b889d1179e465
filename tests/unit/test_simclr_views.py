"""SimCLR's views of whole batches equal those that lightly makes one image at a time."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kornia.enhance import adjust_hue
from lightly.transforms.simclr_transform import SimCLRViewTransform
from PIL import Image, ImageFilter
from scipy import ndimage, stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from dmlstudy.compute.augmentations import simclr
from dmlstudy.compute.batches import ImageBatches

LIGHTLYS = {"jitter_strength": 1.0, "min_scale": 0.08, "blur_probability": 0.5}


def pack_of(*arrays):
    """A pack in memory with the images ``arrays``, each (height, width, 3)."""
    sizes = [array.size for array in arrays]
    return SimpleNamespace(
        pixels=np.concatenate([array.reshape(-1) for array in arrays]),
        offsets=np.cumsum([0, *sizes[:-1]]),
        heights=np.array([array.shape[0] for array in arrays]),
        widths=np.array([array.shape[1] for array in arrays]),
    )


def smooth(rng, height, width):
    """An image without noise, so that small differences of resampling stay small."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(3)
    # Landscape, portrait and a strip, the narrow ones first and last.
    shapes = [(60, 35), (35, 47), (35, 200), (35, 47), (70, 35)]
    return [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


def drawn(count, seed=0, height=35, width=47, **changes):
    sizes = torch.full((count,), height), torch.full((count,), width)
    return simclr.draw(*sizes, torch.Generator().manual_seed(seed), **{**LIGHTLYS, **changes})


def only(views, **changes):
    """`Views` that change nothing, except ``changes``."""
    count = len(views.tops)
    off = torch.zeros(count, dtype=torch.bool)
    return views._replace(jittered=off, grey=off, blurred=off)._replace(**changes)


# Pixels.


def test_crops_are_resized_as_pillow_resizes_them(arrays):
    """Would catch a crop of a neighbouring image or row, a shift, aliasing, or a wrong flip."""
    images = ImageBatches(pack_of(*arrays), 32, torch.device("cpu"))
    rows = torch.arange(len(arrays)).repeat(60)
    views = simclr.draw(
        images.heights[rows], images.widths[rows], torch.Generator().manual_seed(1), **LIGHTLYS
    )
    # The corners, where a window might exceed the pack.
    whole = torch.arange(len(rows)) < 20
    views = views._replace(
        tops=torch.where(whole, images.heights[rows] - 20, views.tops),
        lefts=torch.where(whole, images.widths[rows] - 20, views.lefts),
        heights=torch.where(whole, 20, views.heights),
        widths=torch.where(whole, 20, views.widths),
    )
    found = simclr.resized(images, rows, views)
    for index, row in enumerate(rows.tolist()):
        top, left = int(views.tops[index]), int(views.lefts[index])
        height, width = int(views.heights[index]), int(views.widths[index])
        crop = Image.fromarray(arrays[row][top : top + height, left : left + width])
        expected = np.asarray(crop.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32)
        if views.mirrored[index]:
            expected = expected[:, ::-1]
        # Pillow rounds after each of its two passes.
        difference = np.abs(255 * found[index].permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 1.01


def test_colours_are_changed_as_torchvision_changes_them():
    """Would catch a factor of another image, another order, or another meaning of a strength."""
    count = 64
    given = torch.rand(count, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    views = drawn(count)
    views = only(views, jittered=views.jittered, grey=views.grey)
    found = simclr.coloured(given.clone(), views)
    functions = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for index in range(count):
        expected = given[index]
        if views.jittered[index]:
            for number in views.order[index].tolist():
                expected = functions[number](expected, float(views.factors[index, number]))
        if views.grey[index]:
            expected = functional.rgb_to_grayscale(expected, num_output_channels=3)
        torch.testing.assert_close(found[index], expected, atol=2e-3, rtol=0)
    assert 0 < int(views.grey.sum()) < count
    assert 0 < int(views.jittered.sum()) < count


def test_hue_turns_as_kornias_does():
    """Would catch a wrong sector of the hue, a rotation in the wrong direction, or coloured greys."""
    levels = torch.tensor([0.0, 0.2, 0.5, 1.0])
    # All colours of four levels (with greys and equal channels), and random ones.
    given = torch.cartesian_prod(levels, levels, levels).T.reshape(1, 3, 8, 8).repeat(40, 1, 1, 1)
    given[20:] = torch.rand(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    factors = torch.linspace(-0.5, 0.5, 40)
    expected = adjust_hue(given, 2 * math.pi * factors)
    torch.testing.assert_close(simclr._hue(given, factors), expected, atol=1e-5, rtol=0)


def test_a_few_images_at_a_time_are_changed_as_all_at_once(monkeypatch):
    """Would catch factors of other images from the second chunk on."""
    given = torch.rand(33, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    views = drawn(33)
    expected = simclr.coloured(given.clone(), views)
    monkeypatch.setitem(simclr.CHUNK, "cpu", 3 * 64)
    torch.testing.assert_close(simclr.coloured(given.clone(), views), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_as_wide_as_pillows(sigma):
    """Would catch a standard deviation taken for a radius, a truncated kernel, or dark edges."""
    array = smooth(np.random.default_rng(0), 40, 40)
    array = np.where((np.indices((40, 40)).sum(0) // 8 % 2)[..., None], array, 255 - array)
    given = torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)[None]
    views = only(drawn(1), blurred=torch.tensor([True]), sigmas=torch.tensor([sigma]))
    found = 255 * simclr.coloured(given.clone(), views)[0].permute(1, 2, 0).numpy()
    blurred = Image.fromarray(array.astype(np.uint8)).filter(ImageFilter.GaussianBlur(sigma))
    expected = np.asarray(blurred, dtype=np.float32)
    # Pillow approximates a Gaussian by three box filters, which differ most at edges.
    assert np.abs(found - expected).mean() < 1.5
    exact = ndimage.gaussian_filter(
        array.astype(np.float64), (sigma, sigma, 0), radius=6, mode="nearest"
    )
    np.testing.assert_allclose(found, exact, atol=0.02)


def test_views_have_lightlys_statistics():
    """Would catch a step that is missing, repeated, or of another strength."""
    rng = np.random.default_rng(8)
    array = smooth(rng, 35, 47)
    count = 1500
    images = ImageBatches(pack_of(array), 32, torch.device("cpu"))
    augment = simclr.build(images)
    ours = augment(torch.zeros(count // 2, dtype=torch.int64), torch.Generator().manual_seed(2))
    transform = SimCLRViewTransform(input_size=32)
    np.random.seed(0)
    torch.manual_seed(0)
    theirs = torch.stack([transform(Image.fromarray(array)) for _ in range(count)])

    def figures(views):
        """Of each view: brightness, contrast, colourfulness, sharpness."""
        grey = views.mean(dim=1)
        return {
            "brightness": grey.mean(dim=(1, 2)),
            "contrast": grey.std(dim=(1, 2)),
            "colour": (views - grey[:, None]).abs().mean(dim=(1, 2, 3)),
            "sharpness": grey.diff(dim=2).abs().mean(dim=(1, 2)),
        }

    theirs = figures(theirs)
    for name, values in figures(ours).items():
        assert stats.ks_2samp(values.numpy(), theirs[name].numpy()).pvalue > 1e-3, name


# Numbers.


@pytest.mark.parametrize(("height", "width"), [(35, 47), (35, 200), (90, 35)])
def test_crops_have_torchvisions_law(height, width):
    """Would catch another range of sizes or ratios, or a biased position."""
    count = 3000
    views = drawn(count, height=height, width=width)
    crop = v2.RandomResizedCrop(32, scale=(LIGHTLYS["min_scale"], 1.0))
    torch.manual_seed(1)
    array = torch.empty(3, height, width)
    theirs = [crop.make_params([array]) for _ in range(count)]
    for ours, name in (
        (views.tops, "top"),
        (views.lefts, "left"),
        (views.heights, "height"),
        (views.widths, "width"),
    ):
        expected = [params[name] for params in theirs]
        assert stats.ks_2samp(ours.numpy(), expected).pvalue > 1e-3, name
    assert (views.tops + views.heights).max() <= height
    assert (views.lefts + views.widths).max() <= width
    assert min(views.tops.min(), views.lefts.min()) >= 0


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.5])
def test_strengths_have_torchvisions_law(strength):
    """Would catch swapped strengths of colours, or a negative factor."""
    count = 3000
    views = drawn(count, jitter_strength=strength)
    jitter = v2.ColorJitter(*(strength * value for value in (0.8, 0.8, 0.8, 0.2)))
    ranges = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
    for column, (low, high) in enumerate(ranges):
        law = stats.uniform(low, high - low)
        assert stats.kstest(views.factors[:, column].double().numpy(), law.cdf).pvalue > 1e-3
    law = stats.uniform(simclr.SIGMAS[0], simclr.SIGMAS[1] - simclr.SIGMAS[0])
    assert stats.kstest(views.sigmas.double().numpy(), law.cdf).pvalue > 1e-3


def test_probabilities_are_lightlys_and_independent():
    """Would catch views that are grey whenever they are blurred, or one order for a whole batch."""
    count = 6000
    views = drawn(count)
    flags = {
        "mirrored": 0.5,
        "jittered": 0.8,
        "grey": 0.2,
        "blurred": 0.5,
    }
    for name, probability in flags.items():
        share = getattr(views, name).double().mean()
        assert abs(share - probability) < 4 * math.sqrt(probability * (1 - probability) / count)
    together = torch.stack([getattr(views, name).double() for name in flags] + [
        views.tops.double(), views.heights.double(), *views.factors.double().T, views.sigmas.double(),
    ])  # fmt: skip
    correlations = np.corrcoef(together.numpy()) - np.eye(len(together))
    # A taller crop starts higher: the only two numbers that are correlated.
    correlations[4, 5] = correlations[5, 4] = 0
    assert np.abs(correlations).max() < 4.5 / math.sqrt(count)
    _, counts = np.unique(views.order.numpy(), axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3
    assert drawn(50, blur_probability=0.0).blurred.sum() == 0


def test_views_of_one_batch_have_numbers_of_their_own(arrays):
    """Would catch one set of numbers for all images, for both views, or for every batch."""
    images = ImageBatches(pack_of(*[arrays[1]] * 2), 32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(4)
    rows = torch.tensor([0, 1, 1])
    first, second = (simclr.build(images)(rows, generator) for _ in range(2))
    views = torch.cat([first, second])
    assert views.shape == (12, 3, 32, 32)
    assert views.is_contiguous(memory_format=torch.channels_last)
    for one in range(len(views)):
        for other in range(one):
            assert not torch.equal(views[one], views[other])
