"""Images to embeddings."""

import numpy as np
import torch
from torch.nn import functional

from dmlstudy.compute.devices import autocast
from dmlstudy.compute.prefetch import made_ahead

# Images at a time on a CPU, whose caches like few, and on a GPU, of 224 × 224 pixels.
CPU_BATCH, GPU_BATCH = 64, 256


def images_at_a_time(device, image_size):
    """How many images are embedded together: on a GPU as many as take the same memory at any size.

    `gpu_memory` reckons with `GPU_BATCH`.
    """
    if device.type == "cpu":
        return CPU_BATCH
    return min(2048, max(1, round(GPU_BATCH * (224 / image_size) ** 2)))


@torch.inference_mode()
def embed(model, images, rows, precision):
    """Embeddings (len(rows), dim), float32 on the model's device, not normalised.

    ``model`` is put into eval mode and returned to its mode; ``images`` are `ImageBatches` over the
    test pack, of which the centre crops are taken.
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
    """L2-normalised float32 array (n, dim) of a tensor of embeddings; a zero vector stays zero."""
    return functional.normalize(embeddings.float(), dim=1).cpu().numpy()
