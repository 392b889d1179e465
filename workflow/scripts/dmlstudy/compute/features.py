"""Pooled features of all images of a pack, computed once and stored: heads train on them.

``features.npy``: float32 (images, dim), a row per image of the pack, so the row is the image id. The file
can be memory-mapped.
"""

import time

import numpy as np
import torch

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.devices import autocast, choose_device, prepare, report_emulation
from dmlstudy.compute.embedding import embed, images_at_a_time
from dmlstudy.compute.embedding_model import build_backbone, trim_small_maps
from dmlstudy.compute.memory import embedding_bytes
from dmlstudy.compute.weight_files import load_backbone_weights
from dmlstudy.core.files import StudyError, atomic_path

# Batches between two messages of progress.
BATCHES = 16
# Rows that a head computes at a time.
ROWS = 4096


def write_features(path, recipe, pack, weights, progress=None):
    """Write the features of all images of a test pack to the file ``path``; returns their cost.

    ``recipe``: a `FeatureRecipe`; ``weights``: file of backbone weights. The backbone runs in eval mode, as `embedding.embed` does. ``progress(count)`` is
    called as images are done. Raises StudyError if a feature is not finite.
    """
    begun = time.perf_counter()
    device = choose_device(recipe.device)
    prepare(device, recipe.compute_threads)
    report_emulation(device, recipe.precision)
    backbone = build_backbone(recipe.backbone, recipe.image_size)
    load_backbone_weights(backbone, weights)
    trim_small_maps(backbone.module, recipe.image_size, device)
    network = backbone.module.to(device, memory_format=torch.channels_last)
    wanted = backbone.preprocessing
    reserve = embedding_bytes(recipe)
    images = ImageBatches(
        pack, recipe.image_size, device, reserve, mean=wanted.mean, std=wanted.std
    )
    shape = len(pack), backbone.feature_dim
    # Whole batches, so that a row does not depend on how often progress is reported.
    step = BATCHES * images_at_a_time(device, recipe.image_size)
    with atomic_path(path) as temporary:
        stored = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, len(pack), step):
            rows = np.arange(start, min(len(pack), start + step))
            values = embed(network, images, rows, recipe.precision).cpu().numpy()
            if not np.isfinite(values).all():
                bad = rows[~np.isfinite(values).all(axis=1)][0]
                raise StudyError(
                    f"{recipe.backbone}: the features of image {bad} are not finite; "
                    "protocol.precision: float32, or other weights, may help"
                )
            stored[rows] = values
            if progress:
                progress(len(rows))
        stored.flush()
    return {
        "images": shape[0],
        "dimensions": shape[1],
        "total_seconds": time.perf_counter() - begun,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
    }


class Features:
    """Features of all images of a pack: ``values`` is a float32 array (images, dim)."""

    # As of `ImageBatches`: no batch has to be prepared on the host.
    cut_on_host = False

    def __init__(self, values):
        self.values = values

    @classmethod
    def read(cls, path):
        """Open a file of `write_features`, memory-mapped. StudyError for a file that is none."""
        try:
            # Copy-on-write: nothing is written back, and torch can wrap the array without a warning.
            values = np.load(path, mmap_mode="c", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise StudyError(f"{path}: not the features of a backbone: {error}") from None
        if values.ndim != 2 or values.dtype != np.float32:
            raise StudyError(
                f"{path}: not the features of a backbone: {values.dtype}, shape {values.shape}"
            )
        return cls(values)

    def on(self, device):
        """The values as a tensor on a device; on the CPU, no copy is made."""
        return torch.from_numpy(self.values).to(device)


@torch.inference_mode()
def head_embeddings(head, features, precision):
    """Embeddings (n, dim) of features (n, width): float32, not normalised, as `embedding.embed`.

    ``head`` runs in eval mode, and its previous mode is restored.
    """
    training = head.training
    head.eval()
    parts = []
    for chunk in features.split(ROWS):
        with autocast(features.device, precision):
            parts.append(head(chunk).float())
    head.train(training)
    return torch.cat(parts)
