"""Write files of weights."""

import torch

from dmlstudy.core.files import atomic_path


def save_weights(path, value):
    """Save tensors and plain values in a file for ``torch.load(weights_only=True)``.

    Tensors are stored contiguous and on the CPU, so that equal weights give equal files.
    """
    # torch stores the name of a path in the file, but not that of a stream.
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        write_tensors(_plain(value), stream)


def write_tensors(value, stream):
    """``torch.save`` that raises OSError for a full disk, as other writers do."""
    try:
        torch.save(value, stream)
    except RuntimeError as error:
        # torch raises this error when closing the archive fails after the OSError.
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
