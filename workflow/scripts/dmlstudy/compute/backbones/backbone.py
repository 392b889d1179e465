"""What a backbone is, whatever its family."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dmlstudy.core.files import StudyError


class Preprocessing(NamedTuple):
    """The images that published weights expect.

    ``mean``, ``std``: of the channels, pixels in 0…1; ``interpolation``: "bilinear" or "bicubic";
    ``input_size``: side in pixels of the images that the weights were made for.
    """

    mean: tuple
    std: tuple
    interpolation: str
    input_size: int


class MapLayers(NamedTuple):
    """Where a heat map can look.

    ``names``: modules in the order in which they run; None: the backbone's children and theirs.
    ``extra_tokens``: class and register tokens that stand before those of the image.
    """

    names: tuple | None = None
    extra_tokens: int = 0


def unchanged(state):
    return state


@dataclass
class Backbone:
    """A network that ends in pooled features.

    ``module``: images (batch, 3, height, width) → features (batch, ``feature_dim``); ``classifier``:
    prefixes of the classifier's keys in a published file; ``adapt``: function from the weights of a
    file (key → tensor) to weights that fit, e.g. with resampled position embeddings; ``blocks``: names
    of the parameters of each block, in the order in which blocks run. Parameters before the first block
    are in none, those after the last block are in the last. Empty if the blocks are not known.
    """

    module: nn.Module
    feature_dim: int
    preprocessing: Preprocessing
    map_layers: MapLayers
    classifier: tuple = ()
    adapt: Callable = unchanged
    blocks: tuple = ()


def blocks_at(module, places):
    """Names of the parameters of blocks, as `Backbone.blocks`; ``places``: names of the blocks' modules.

    Both the module's parameters and ``places`` must be in the order in which they run.
    """
    blocks, following = [[] for _ in places], None
    for name, _ in module.named_parameters():
        found = next((i for i, place in enumerate(places) if name.startswith(f"{place}.")), None)
        following = following if found is None else found
        if following is not None:
            blocks[following].append(name)
    return tuple(tuple(names) for names in blocks if names)


def batchnorms(module):
    """The BatchNorm layers of a module."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def pooled_width(make, name, image_size):
    """Width of the features of the network that ``make()`` builds. Only shapes are computed.

    Raises StudyError if the network cannot take square images of that size or does not pool.
    """
    size = f"{image_size} × {image_size} pixels"
    # Building on the meta device should draw no random numbers; the generator is restored in any case.
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        try:
            features = make().eval()(torch.zeros(1, 3, image_size, image_size))
        except StudyError:
            raise
        except Exception as error:
            # Networks raise all kinds of errors for an image that is too small.
            reason = str(error).strip().split("\n")[0] or type(error).__name__
            raise StudyError(f"{name} cannot take images of {size}: {reason}") from None
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise StudyError(f"{name} gives no pooled features for images of {size}")
    return features.shape[1]


def check_patches(name, patch_size, image_size):
    """Raise StudyError if square images of ``image_size`` cannot be cut into whole patches."""
    sides = set(patch_size) if isinstance(patch_size, (tuple, list)) else {patch_size}
    for side in sides - {None}:
        if image_size % side:
            below = image_size // side * side
            sizes = [f"{size}" for size in (below, below + side) if size]
            raise StudyError(
                f"{name} cuts images into patches of {side} × {side} pixels, which do not divide an "
                f"image_size of {image_size}; {' or '.join(sizes)} would do"
            )


def unknown(name, known):
    """StudyError for a backbone that does not exist, with names that are similar to it."""
    nearest = difflib.get_close_matches(name, known, 4, 0.4)
    hint = f"; similar names: {', '.join(nearest)}" if nearest else ""
    return StudyError(f"unknown backbone {name!r}{hint}")
