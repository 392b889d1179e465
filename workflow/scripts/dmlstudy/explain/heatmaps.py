"""EmbeddingCAM: where a model looks when it finds an image like a class.

The heat map of an image x and a class is Grad-CAM (Selvaraju et al., ICCV 2017) of the score e(x) · p:
e is the embedding before it is normalised, p the class's proxy, the mean of the normalised gallery
embeddings of the class (EmbeddingCAM, arXiv 2402.00909). With pooled features and a linear head
e = W f + b it is the class activation map of the class vector Wᵀp, up to a factor.

Why not the similarity itself? On normalised embeddings with the query as its own proxy the score is at
its maximum: its gradient is zero, and what is left to be seen is rounding.
"""

import numpy as np
import torch
from pytorch_grad_cam import GradCAM

BATCH = 32
# A map with fewer pixels a side says nothing about a place.
SMALLEST_MAP = 4
STAGES = ("layer1", "layer2", "layer3", "layer4")


def choose_layer(backbone, image_size):
    """The last stage of a ResNet whose map has at least 4 × 4 pixels: (name, module).

    For images of 128 pixels and more it is the last stage. Small images are down to one pixel there,
    whose map would say nothing; they are looked at an earlier stage, or at the first if none is large
    enough.
    """
    sizes = {}
    handles = [
        getattr(backbone, name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update({name: output.shape[-1]})
        )
        for name in STAGES
    ]
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, image_size, image_size))
    for handle in handles:
        handle.remove()
    large = [name for name in STAGES if sizes[name] >= SMALLEST_MAP]
    name = large[-1] if large else STAGES[0]
    return name, getattr(backbone, name)


def class_proxies(embeddings, class_ids):
    """{class id: proxy (dim,) float32}, the mean of a class's normalised gallery ``embeddings`` (n, dim)."""
    return {
        int(class_id): embeddings[class_ids == class_id].mean(axis=0)
        for class_id in np.unique(class_ids)
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
    """Heat maps (n, h, w), float32, at the size of ``layer``'s output, at least 0 and not scaled.

    ``model``: an `EmbeddingModel`, put into eval mode, its weights left without gradients; ``layer``:
    one of its modules, see `choose_layer`; ``images``: (n, 3, height, width), normalised; ``proxies``:
    (n, dim), one per image. Raises ValueError unless there are as many.
    """
    if len(images) != len(proxies):
        raise ValueError(f"{len(images)} images need as many proxies, not {len(proxies)}")
    frozen = [p for p in model.parameters() if p.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(False)
    # With frozen weights only what follows the layer is differentiated: that is all that is asked for,
    # and no weight gets a gradient that stays behind.
    start = layer.register_forward_hook(lambda module, inputs, output: output.requires_grad_())
    # Not as a context manager, which would swallow an IndexError.
    cam = EmbeddingCAM(model, [layer])
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
        for parameter in frozen:
            parameter.requires_grad_(True)
    return np.concatenate(parts).astype(np.float32)
