"""Computes pooled features of all images of a pack, once, for the heads that train on them.

``features.npy``: float32 (images, dim), a row per image of the pack, so the row is the image id. The file
can be memory-mapped. Apart from `features`, so that a change of how heads read it computes none again.
"""

import time

import numpy as np
import torch

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.devices import choose_device, prepare, report_emulation
from dmlstudy.compute.embedding import embed, images_at_a_time
from dmlstudy.compute.embedding_model import build_backbone, trim_small_maps
from dmlstudy.compute.memory import embedding_bytes
from dmlstudy.compute.weight_files import load_backbone_weights
from dmlstudy.core.files import StudyError, atomic_path

# Batches between two messages of progress.
BATCHES = 16


def write_features(path, recipe, pack, weights, progress=None):
    """Write the features of all images of a test pack to the file ``path``; returns their cost.

    ``recipe``: a `FeatureRecipe`; ``weights``: file of backbone weights. The backbone runs in eval mode,
    as in `embedding.embed`. ``progress(count)`` is called as images are done. Raises StudyError if a
    feature is not finite.
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
