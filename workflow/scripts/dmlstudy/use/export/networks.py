"""The network of a run as files that programs without this project can load.

All three have the same weights: ONNX (any runtime), a program of `torch.export` (torch alone), and the bare
weights (safetensors).
"""

import logging
import shutil
import warnings

import onnx_ir
import torch
import torch.fx.config
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from dmlstudy.core.files import StudyError
from dmlstudy.train.building import build_piece
from dmlstudy.use.export.place import ONNX, PROGRAM, WEIGHTS
from dmlstudy.use.trained_model import load_model

# An ONNX file is at most 2 GiB long. Some room is left for the graph.
LARGEST_ONNX = 2**31 - 2**26
IMAGES, EMBEDDINGS, LOGITS = "images", "embeddings", "logits"


class ExportedModel(nn.Module):
    """Images float32 (batch, 3, size, size), prepared as the study does → a tuple of float32 tensors.

    The first is the embedding (batch, dim), L2-normalised. A classifier's second one has the scores of the
    classes that the model was trained on (batch, labels), before the softmax.
    """

    def __init__(self, model, loss=None):
        super().__init__()
        self.backbone, self.head = model.backbone, model.head
        # Only what `logits` needs: a loss has more that no other program could use.
        self.classifier = loss

    def forward(self, images):
        embeddings = self.head(self.backbone(images)).float()
        normalised = functional.normalize(embeddings, dim=1)
        if self.classifier is None:
            return (normalised,)
        return normalised, self.classifier.logits(embeddings)

    @property
    def outputs(self):
        """Names of the outputs, in order."""
        return [EMBEDDINGS] if self.classifier is None else [EMBEDDINGS, LOGITS]


def load_exported(path):
    """(`ExportedModel` on the CPU, contents of the file) of a run's model.pt. StudyError as `load_model`."""
    model, stored = load_model(path, "cpu", plain=True)
    recipe, loss = stored["recipe"], None
    try:
        with torch.inference_mode():
            size = recipe["image_size"]
            dim = model(torch.zeros(1, 3, size, size)).shape[1]
        found = build_piece("loss", recipe["loss"], len(stored["class_ids"]), dim)
        if hasattr(found, "logits") and recipe["epochs"]:
            found.load_state_dict(stored["loss"])
            loss = found.eval()
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StudyError(
            f"{path}: this version of the project cannot build the loss of its recipe: {error!r}"
        ) from None
    return ExportedModel(model, loss).eval().requires_grad_(False), stored


def write_networks(model, image_size, folder):
    """Write `ONNX`, `PROGRAM` and `WEIGHTS` of an `ExportedModel` into an existing folder.

    The size of the batch is free in both programs. Raises StudyError if torch cannot trace the network.
    """
    # Not one image: a program would take a batch of one for a constant.
    images = torch.zeros(2, 3, image_size, image_size)
    batch = {0: torch.export.Dim("batch", min=1)}
    with _quiet():
        try:
            with torch.no_grad():
                program = torch.export.export(model, (images,), dynamic_shapes=(batch,))
        except Exception as error:
            # The tracer raises all kinds of errors for what it cannot follow.
            raise StudyError(f"torch cannot export this network: {_first_line(error)}") from None
        for node in program.graph.nodes:
            # Paths of this machine: where each operation stands in the code.
            node.meta.pop("stack_trace", None)
        torch.export.save(program, folder / PROGRAM)
        try:
            written = torch.onnx.export(
                program,
                (),
                input_names=[IMAGES],
                output_names=model.outputs,
                dynamo=True,
                verbose=False,
            )
            for graph in (written.model.graph, *written.model.functions.values()):
                for node in onnx_ir.traversal.RecursiveGraphIterator(graph):
                    node.metadata_props.clear()
            written.save(str(folder / ONNX), external_data=_size(model) > LARGEST_ONNX)
        except torch.onnx.errors.OnnxExporterError as error:
            raise StudyError(
                f"this network cannot be written as ONNX: {_first_line(error)}"
            ) from None
    # Layouts such as channels-last are not for a file.
    state = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors lets only the owner read its file.
    shutil.copymode(folder / PROGRAM, folder / WEIGHTS)


def _size(model):
    """Bytes of all weights."""
    return sum(value.numel() * value.element_size() for value in model.state_dict().values())


def _first_line(error):
    return str(error).strip().split("\n")[0] or type(error).__name__


class _quiet(warnings.catch_warnings):
    """Without the exporters' remarks on their own inside, and faster: no file has the traces left out here."""

    def __enter__(self):
        found = super().__enter__()
        warnings.simplefilter("ignore")
        self.loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)
        self.untraced = torch.fx.config.do_not_emit_stack_traces
        torch.fx.config.do_not_emit_stack_traces = True
        return found

    def __exit__(self, *exception):
        torch.fx.config.do_not_emit_stack_traces = self.untraced
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
        super().__exit__(*exception)
