"""Compares an exported network with torch's, on the test queries of the study."""

import os

# ONNX Runtime would tell its maker how it is used, and leave a file behind. It reads this when it is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import torch
from safetensors.torch import load_file

from dmlstudy.core.files import StudyError
from dmlstudy.use.export.networks import IMAGES
from dmlstudy.use.export.place import ONNX, PROGRAM, WEIGHTS

# Largest difference of any output that is allowed.
LIMIT = 1e-3
BATCH = 32


def onnx_session(path, threads):
    """An ONNX Runtime session on the CPU; StudyError if the file cannot be loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Errors only.
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # The runtime raises all kinds of errors for a file that it cannot load.
        raise StudyError(f"{path}: ONNX Runtime cannot load this file: {error}") from None


def check_networks(folder, model, images, rows, threads, progress=None):
    """Run both programs of ``folder`` and ``model`` on images: (differences, embeddings of ONNX).

    ``model``: the `ExportedModel`; ``images``: `ImageBatches`; ``rows`` (n,): its images. ``differences``:
    {file: {output: largest absolute difference}}; the embeddings are float32 (n, dim). The first image also
    runs alone, so that another size of batch is tried. Raises StudyError if a difference is above `LIMIT`
    or not a number, if a program's shapes differ, or if the weights are not those of the model.
    """
    session = onnx_session(folder / ONNX, threads)
    program = torch.export.load(folder / PROGRAM).module()
    rows = torch.as_tensor(np.asarray(rows), dtype=torch.int64)
    differences = {name: dict.fromkeys(model.outputs, 0.0) for name in (ONNX, PROGRAM)}
    embeddings = []
    for chunk in (rows[:1], *rows.split(BATCH)):
        batch = images.normalise(images.centre(chunk)).contiguous()
        with torch.inference_mode():
            expected = [one.numpy() for one in model(batch)]
            of_program = [one.numpy() for one in program(batch)]
        of_onnx = session.run(model.outputs, {IMAGES: batch.numpy()})
        for name, found in ((ONNX, of_onnx), (PROGRAM, of_program)):
            for output, one, other in zip(model.outputs, found, expected, strict=True):
                known = differences[name]
                known[output] = max_or_nan(known[output], difference(name, output, one, other))
        embeddings.append(of_onnx[0])
        if progress:
            progress(len(chunk))
    refuse_above(differences)
    check_weights(folder / WEIGHTS, model)
    # Without the image that ran alone.
    return differences, np.concatenate(embeddings[1:])


def max_or_nan(one, other):
    """The larger number; NaN if one of them is."""
    return float(np.maximum(one, other))


def difference(name, output, found, expected):
    """Largest absolute difference of two arrays; StudyError if their shapes differ."""
    if found.shape != expected.shape:
        raise StudyError(
            f"{name}: {output} has shape {found.shape}, but torch gives {expected.shape}; the export is "
            "not written"
        )
    return float(np.abs(found.astype(np.float64) - expected).max())


def refuse_above(differences):
    """Raise StudyError for the first difference that is above `LIMIT` or NaN."""
    for name, of_outputs in differences.items():
        for output, value in of_outputs.items():
            if not value <= LIMIT:
                raise StudyError(
                    f"{name}: {output} differs from torch by up to {value:.3g} on the study's test "
                    f"queries, more than {LIMIT:g}; the export is not written"
                )


def check_weights(path, model):
    """Raise StudyError unless the weights of a file equal those of ``model`` to the bit."""
    stored, own = load_file(path), model.state_dict()
    wrong = sorted(stored.keys() ^ own.keys())
    wrong += [name for name in own if name in stored and not torch.equal(stored[name], own[name])]
    if wrong:
        raise StudyError(
            f"{path.name}: {wrong[0]} is not that of the model; the export is not written"
        )
