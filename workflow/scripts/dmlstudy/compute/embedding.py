"""Embeddings of images."""

import numpy as np
import torch
from torch.nn import functional

from dmlstudy.compute.devices import autocast
from dmlstudy.compute.prefetch import made_ahead

# Batch sizes for images of 224 × 224 pixels: small on a CPU (caches), larger on a GPU.
CPU_BATCH, GPU_BATCH = 64, 256


def images_at_a_time(device, image_size):
    """Batch size for embedding. On a GPU it depends on the image size, so that memory stays the same.

    `compute.memory` uses `GPU_BATCH` in its estimate.
    """
    if device.type == "cpu":
        return CPU_BATCH
    return min(2048, max(1, round(GPU_BATCH * (224 / image_size) ** 2)))


@torch.inference_mode()
def embed(model, images, rows, precision):
    """Embeddings (len(rows), dim) of centre crops: float32, on the model's device, not normalised.

    ``model`` runs in eval mode, and its previous mode is restored; ``images``: `ImageBatches` of the
    test pack.
    """
    training = model.training
    model.eval()
    rows = torch.as_tensor(np.asarray(rows), dtype=torch.int64)
    parts = []
    size = images_at_a_time(images.device, images.size)
    batches = ((images.normalise(images.centre(chunk)),) for chunk in rows.split(size))
    if images.cut_on_host:
        batches = made_ahead(batches, images.device)
    for (batch,) in batches:
        with autocast(images.device, precision):
            parts.append(model(batch).float())
    model.train(training)
    return torch.cat(parts)


def normalised(embeddings):
    """L2-normalise embeddings: tensor (n, dim) → float32 array (n, dim). Zero vectors stay zero."""
    return functional.normalize(embeddings.float(), dim=1).cpu().numpy()
