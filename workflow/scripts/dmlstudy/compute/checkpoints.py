"""Files of weights."""

import torch

from dmlstudy.core.files import atomic_path


def save_weights(path, value):
    """Save tensors and plain values so that ``torch.load(weights_only=True)`` reads them.

    Tensors are moved to the CPU in their plain memory layout: the same weights give the same file.
    """
    # A file object gives every archive the same inner name; a path would give it the file's.
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        write_tensors(_plain(value), stream)


def write_tensors(value, stream):
    """``torch.save``, to which a disk that is full gives an OSError, as to any other writer."""
    try:
        torch.save(value, stream)
    except RuntimeError as error:
        # Closing the archive failed as well, since nothing could be written.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().contiguous().clone()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
