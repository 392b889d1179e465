"""Stored features of a backbone, and what a head makes of them."""

import numpy as np
import torch

from dmlstudy.compute.devices import autocast
from dmlstudy.core.files import StudyError

# Rows that a head computes at a time.
ROWS = 4096


class Features:
    """Features of all images of a pack: ``values`` is a float32 array (images, dim)."""

    # As of `ImageBatches`: no batch has to be prepared on the host.
    cut_on_host = False

    def __init__(self, values):
        self.values = values

    @classmethod
    def read(cls, path):
        """Open a file of `feature_files.write_features`, memory-mapped. StudyError for a file that is none."""
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
