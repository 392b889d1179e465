"""EmbeddingCAM: where a model looks when it finds an image like a class.

The heat map of an image x and a class is Grad-CAM (Selvaraju et al., ICCV 2017) of the score e(x) · p:
e is the embedding before it is normalised, p the class's proxy, the mean of the normalised gallery
embeddings of the class (EmbeddingCAM, arXiv 2402.00909). With pooled features and a linear head
e = W f + b it is the class activation map of the class vector Wᵀp, up to a factor.

Why not the similarity itself? On normalised embeddings with the query as its own proxy the score is at
its maximum: its gradient is zero, and what is left to be seen is rounding.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from pytorch_grad_cam import GradCAM

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.core.files import StudyError

BATCH = 32
# A map with fewer pixels a side says nothing about a place.
SMALLEST_MAP = 4


class Layer(NamedTuple):
    """Where heat maps look: a module, its name, and how its output becomes maps (n, channels, h, w)."""

    name: str
    module: torch.nn.Module
    to_map: Callable


def choose_layer(model, image_size):
    """The last layer of an `EmbeddingModel`'s backbone whose map has at least 4 × 4 pixels: a `Layer`.

    For small images the last maps have a few pixels and show no place, so an earlier layer is used; if
    none is large enough, the largest. A layer counts only if its map influences the features: after the
    last block of a transformer with a class token, the other tokens do not. Raises StudyError if no
    layer of the backbone gives a map.
    """
    backbone, places = model.backbone, model.map_layers
    names = places.names or [
        name for name, _ in backbone.named_modules() if name and name.count(".") < 2
    ]
    seen = {}

    def note(name):
        def hook(module, inputs, output):
            found = isinstance(output, torch.Tensor) and _as_map(output.shape, places.extra_tokens)
            if found:
                # In the order in which they run.
                seen[name] = (output, *found)

        return hook

    handles = [backbone.get_submodule(n).register_forward_hook(note(n)) for n in names]
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(1, 3, image_size, image_size, generator=drawn)
    given_names = places.names is not None
    try:
        with torch.set_grad_enabled(not given_names):
            features = backbone.eval()(images.requires_grad_(not given_names))
    finally:
        for handle in handles:
            handle.remove()
    if not given_names:
        # Not a plain sum: it is constant if the features are normalised.
        direction = torch.randn(features.shape, generator=drawn)
        outputs = [output for output, *_ in seen.values()]
        gradients = torch.autograd.grad(
            (features * direction).sum(), outputs, allow_unused=True, materialize_grads=True
        )
        for (name, (*_, to_map)), gradient in zip(list(seen.items()), gradients, strict=True):
            if not to_map(gradient).any():
                del seen[name]
    sides = {name: side for name, (_, side, _) in seen.items()}
    if max(sides.values(), default=1) == 1:
        raise StudyError(
            f"heat maps: no layer of this backbone gives a map for images of {image_size} × "
            f"{image_size} pixels"
        )
    large = [name for name, side in sides.items() if side >= SMALLEST_MAP]
    name = large[-1] if large else max(sides, key=sides.get)
    return Layer(name, backbone.get_submodule(name), seen[name][2])


def _as_map(shape, extra_tokens):
    """(side, function to (n, channels, side, side)) of an output of square images; None if it is no map.

    Maps are (n, channels, h, w), or (n, h, w, channels) as in Swin; tokens are (n, tokens, channels),
    the first ``extra_tokens`` of which stand for no place. Early layers may not have these tokens yet.
    """
    if len(shape) == 4 and shape[2] == shape[3]:
        return shape[2], _unchanged
    if len(shape) == 4 and shape[1] == shape[2]:
        return shape[1], _channels_first
    if len(shape) == 3:
        for extra in (extra_tokens, 0):
            side = math.isqrt(max(0, shape[1] - extra))
            if side and side * side == shape[1] - extra:
                return side, partial(_grid, extra, side)
    return None


def _unchanged(output):
    return output


def _channels_first(output):
    return output.permute(0, 3, 1, 2)


def _grid(extra_tokens, side, tokens):
    return tokens[:, extra_tokens:].unflatten(1, (side, side)).permute(0, 3, 1, 2)


def class_proxies(embeddings, class_ids):
    """{class id: proxy (dim,) float32}, the mean of a class's normalised gallery ``embeddings`` (n, dim)."""
    return {
        int(class_id): embeddings[rows].mean(axis=0) for class_id, rows in rows_by_class(class_ids)
    }


class ProxyTarget:
    """Score of one image's embedding (dim,) for pytorch-grad-cam: its product with a proxy (dim,)."""

    def __init__(self, proxy):
        self.proxy = torch.as_tensor(proxy, dtype=torch.float32)

    def __call__(self, embedding):
        return embedding @ self.proxy.to(embedding.device)


class EmbeddingCAM(GradCAM):
    """pytorch-grad-cam's Grad-CAM whose maps keep the layer's size and their scale.

    The library stretches each map from its smallest to its largest value and enlarges it; then the
    coolest place of a map that is warm all over would count as cold.
    """

    def compute_cam_per_layer(self, input_tensor, targets, eigen_smooth):
        (activations,) = self.activations_and_grads.activations
        (gradients,) = self.activations_and_grads.gradients
        maps = self.get_cam_image(
            input_tensor, self.target_layers[0], targets,
            activations.numpy(), gradients.numpy(), eigen_smooth,
        )  # fmt: skip
        return np.maximum(maps, 0)

    def aggregate_multi_layers(self, maps):
        return maps


def heat_maps(model, layer, images, proxies):
    """Heat maps (n, h, w), float32, at the size of a layer's map, at least 0 and not scaled.

    ``model``: an `EmbeddingModel`, put into eval mode, its weights left without gradients; ``layer``:
    a `Layer` of it, see `choose_layer`; ``images``: (n, 3, height, width), normalised; ``proxies``:
    (n, dim), one per image. Raises ValueError unless there are as many.
    """
    if len(images) != len(proxies):
        raise ValueError(f"{len(images)} images need as many proxies, not {len(proxies)}")
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    # With frozen weights only what follows the layer is differentiated: that is all that is asked for,
    # and no weight gets a gradient that stays behind.
    start = layer.module.register_forward_hook(
        lambda module, inputs, output: output.requires_grad_()
    )
    # Not as a context manager, which would swallow an IndexError.
    cam = EmbeddingCAM(model, [layer.module], layer.to_map)
    # The next operation may work in place (a ReLU after a BatchNorm); it must not change the stored map.
    end = layer.module.register_forward_hook(lambda module, inputs, output: output.clone())
    parts = []
    try:
        for begin in range(0, len(images), BATCH):
            rows = slice(begin, begin + BATCH)
            # A target per image: a single one would leave the maps of all others empty.
            targets = [ProxyTarget(proxy) for proxy in proxies[rows]]
            parts.append(cam(images[rows], targets))
    finally:
        cam.activations_and_grads.release()
        start.remove()
        end.remove()
        for parameter in frozen:
            parameter.requires_grad_(True)
    return np.concatenate(parts).astype(np.float32)
