"""Images to embeddings."""

import numpy as np
import torch
from torch.nn import functional

from dmlstudy.ahead import made_ahead
from dmlstudy.devices import autocast

# Images at a time. More fill a large GPU better; a processor's caches like fewer.
BATCH = {"cpu": 64, "cuda": 512}


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
    size = BATCH[images.device.type]
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
