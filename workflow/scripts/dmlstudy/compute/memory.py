"""How much memory a training needs, estimated before it begins, and rather too high than too low.

Networks are measured on torch's meta device, where tensors have shapes and no content: nothing is
allocated, and it takes a fraction of a second. The numbers are for float32. In bfloat16 activations
are half as large, and a copy of the weights is added.
"""

import functools
import json
import weakref
from typing import NamedTuple

from dmlstudy.core import registry, source_code
from dmlstudy.core.canonical import canonical_json

MB = 2**20
# CUDA itself, its libraries and what they work in, FAISS too.
CONTEXT = 1500
# Gradients of activations and workspaces come on top of what is kept.
BESIDE = 1.5
# Bytes of a training step for each pixel of its images: the most of eight backbones that were measured is 24,600, of
# ViT-B with patches of 8 pixels.
BYTES_PER_PIXEL = 25_000
# Batch size of the measurement.
MEASURED = 2


class Footprint(NamedTuple):
    """Bytes of a backbone in float32.

    ``weights``: parameters and buffers; ``kept``: what a training step keeps per image until gradients
    are computed; ``live``: peak of all tensors per image while images are embedded.
    """

    weights: int
    kept: int
    live: int


class Trained(NamedTuple):
    """What of a backbone trains, in bytes of float32: its ``weights``, and ``kept`` as in `Footprint`."""

    weights: int
    kept: int


@functools.cache
def footprint(backbone, image_size):
    """The `Footprint` of a backbone's name for square images. StudyError as `build_backbone`."""
    network, images = _on_meta(backbone, image_size)
    own = [*network.parameters(), *network.buffers()]
    return Footprint(
        sum(tensor.nbytes for tensor in own),
        _kept(network.train(), images, own) // MEASURED,
        _live(network.eval(), images) // MEASURED,
    )


def trained(recipe):
    """What a `Recipe` trains of its backbone: `Trained`. StudyError if it has no such parts."""
    if recipe.trained_parts["kind"] == "all":
        whole = footprint(recipe.backbone, recipe.image_size)
        return Trained(whole.weights, whole.kept)
    return _trained(recipe.backbone, recipe.image_size, canonical_json(recipe.trained_parts))


@functools.cache
def _trained(backbone, image_size, parts):
    network, images = _on_meta(backbone, image_size, json.loads(parts))
    own = [*network.parameters(), *network.buffers()]
    weights = sum(p.nbytes for p in network.parameters() if p.requires_grad)
    return Trained(weights, _kept(network, images, own) // MEASURED)


def _on_meta(backbone, image_size, parts=None):
    """(network in training mode, `MEASURED` images) without memory; ``parts``: of it that train, or None."""
    import torch

    from dmlstudy.compute.embedding_model import build_backbone

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        made = build_backbone(backbone, image_size)
        images = torch.zeros(MEASURED, 3, image_size, image_size)
        network = made.module.train()
        if parts:
            kind, options = parts["kind"], {k: v for k, v in parts.items() if k != "kind"}
            for layer in registry.load("trained_parts", kind)(made, **options):
                layer.eval()
    return network, images


def _kept(network, images, own):
    """Bytes that a forward pass keeps for its gradients, without the network's ``own`` tensors."""
    import torch

    known = {_storage(tensor) for tensor in own}
    # Each storage counts once. Saved tensors stay alive here, so no storage gets the number of another.
    saved = {}

    def save(tensor):
        saved[_storage(tensor)] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        features = network(images)
    kept = sum(
        tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in known
    )
    del features
    return kept


def _live(network, images):
    """Peak of the bytes of all tensors during a forward pass without gradients."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Counting(TorchDispatchMode):
        now = most = 0

        def __init__(self):
            super().__init__()
            # Storage → how many tensors look at it.
            self.users = {}

        def __torch_dispatch__(self, operation, types, arguments=(), options=None):
            result = operation(*arguments, **(options or {}))
            for tensor in tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    self.add(tensor)
            return result

        def add(self, tensor):
            key, size = _storage(tensor), tensor.untyped_storage().nbytes()
            if key not in self.users:
                self.users[key] = 0
                self.now += size
                self.most = max(self.most, self.now)
            self.users[key] += 1
            weakref.finalize(tensor, self.drop, key, size)

        def drop(self, key, size):
            self.users[key] -= 1
            if not self.users[key]:
                del self.users[key]
                self.now -= size

    with torch.no_grad(), Counting() as counting:
        network(images)
    return counting.most + images.nbytes


def _storage(tensor):
    return tensor.untyped_storage()._cdata


def activation_megabytes(recipe):
    """MB of activations and their gradients in a training step, on a CPU as well.

    A batch of stored features is too small to count.
    """
    if not recipe.backbone_trains:
        return 0
    views = source_code.constant("augmentation", recipe.augmentation["kind"], "VIEWS")
    # What does not train still has tensors of its own while it runs.
    live = footprint(recipe.backbone, recipe.image_size).live
    kept = max(BESIDE * trained(recipe).kept, live) / MB
    return kept * recipe.batch_size * views


def takes_at_most(recipe, megabytes):
    """Whether `activation_megabytes` are at most so many. Small images need no measurement, which takes 0.4 s."""
    views = source_code.constant("augmentation", recipe.augmentation["kind"], "VIEWS")
    pixels = recipe.batch_size * views * recipe.image_size**2
    return pixels * BYTES_PER_PIXEL <= megabytes * MB or activation_megabytes(recipe) <= megabytes


def embedding_megabytes(recipe):
    """MB of tensors, at their peak, while a GPU embeds a batch."""
    import torch

    from dmlstudy.compute.embedding import images_at_a_time

    images = images_at_a_time(torch.device("cuda"), recipe.image_size)
    return footprint(recipe.backbone, recipe.image_size).live / MB * images


def graph_bytes(recipe):
    """Bytes that CUDA graphs of a step keep: an epoch's last batch and embedding need theirs all the same."""
    return int(activation_megabytes(recipe) * MB) if recipe.cuda_graphs else 0


def working_bytes(recipe):
    """Bytes that training a recipe needs beside packs and graphs: weights, optimizer, activations."""
    activations = activation_megabytes(recipe)
    if recipe.backbone_trains:
        activations = max(activations, embedding_megabytes(recipe))
    # Weights and a copy in bfloat16; gradients of those that train, and up to two moments of each.
    weights = 1.5 * footprint(recipe.backbone, recipe.image_size).weights / MB
    weights += 3 * trained(recipe).weights / MB
    return int((activations + weights + CONTEXT) * MB)


def embedding_bytes(recipe):
    """Bytes that embedding images needs beside packs: weights, activations. Also of a `FeatureRecipe`."""
    weights = footprint(recipe.backbone, recipe.image_size).weights / MB
    return int((embedding_megabytes(recipe) + 1.5 * weights + CONTEXT) * MB)


def needed_megabytes(recipe, *packs):
    """MB that a training job asks of a card, with its packs (sizes in bytes) in its memory."""
    return -(-(working_bytes(recipe) + graph_bytes(recipe) + sum(packs)) // MB)
