"""How large a model is, and what it takes to embed a photograph. Weights and photographs do not matter for it."""

import statistics
import time
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from dmlstudy.compute.devices import autocast, choose_device, prepare
from dmlstudy.compute.embedding import images_at_a_time
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone, trim_small_maps
from dmlstudy.compute.trained_parts.low_rank import merge
from dmlstudy.core import registry

# Timed batches; one more runs before them, untimed. On a CPU they are smaller than those that are embedded:
# a photograph takes as long, the measurement a quarter.
BATCHES, CPU_BATCH = 3, 16


class ModelSize(NamedTuple):
    """``parameters`` of backbone and head; ``trained_parameters``: of these, or of the low-rank changes in
    their place, that an experiment trains; ``gflop``: 10⁹ floating-point operations to embed one photograph,
    a multiplication and an addition counted as two. Layers that are not products (normalisation, ReLU,
    pooling) are not counted.
    """

    parameters: int
    trained_parameters: int
    gflop: float


def build(model):
    """The `EmbeddingModel` of a model's description, randomly initialised.

    ``model``: {"backbone", "image_size", "head", "frozen_batchnorm", "backbone_trains", "trained_parts",
    "trains"}: keys as in a complete recipe; ``trains``: whether the experiment trains anything. Weights that
    do not train have no gradient. Raises StudyError as `build_backbone`.
    """
    backbone = build_backbone(model["backbone"], model["image_size"])
    head = _piece("head", model["head"], backbone.feature_dim)
    built = EmbeddingModel(backbone, head, model["frozen_batchnorm"])
    _piece("trained_parts", model["trained_parts"], backbone)
    if not model["backbone_trains"]:
        built.backbone.requires_grad_(False)
    if not model["trains"]:
        built.requires_grad_(False)
    return built


def _piece(piece, values, argument):
    parameters = {key: value for key, value in values.items() if key != "kind"}
    return registry.load(piece, values["kind"])(argument, **parameters)


def size(model):
    """The `ModelSize` of a description, see `build`. Only shapes are computed: it takes no memory."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.inference_mode(False):
        built = build(model)
        trained = sum(p.numel() for p in built.parameters() if p.requires_grad)
        merge(built)
        total = sum(p.numel() for p in built.parameters())
        side = model["image_size"]
        # Without gradients some attentions would take a fused path whose operations are not counted.
        with FlopCounterMode(display=False) as counter:
            built.eval()(torch.zeros(1, 3, side, side))
    return ModelSize(total, trained, counter.get_total_flops() / 1e9)


@torch.inference_mode()
def milliseconds(model, *, device, precision, threads):
    """(milliseconds to embed a photograph, name of the device): the median of whole batches.

    ``model``: see `build`; ``device``, ``precision``, ``threads``: as in a recipe. Images of the model's size
    lie in memory; opening and resizing photographs is not part of it.
    """
    chosen = choose_device(device)
    prepare(chosen, threads)
    built = build(model)
    merge(built)
    trim_small_maps(built.backbone, model["image_size"], chosen)
    built = built.to(chosen, memory_format=torch.channels_last).eval()
    side = model["image_size"]
    count = images_at_a_time(chosen, side) if chosen.type == "cuda" else CPU_BATCH
    batch = torch.zeros(count, 3, side, side, device=chosen)
    batch = batch.contiguous(memory_format=torch.channels_last)
    taken = []
    for _ in range(BATCHES + 1):
        begun = time.perf_counter()
        with autocast(chosen, precision):
            # Waits for the device.
            built(batch).float().cpu()
        taken.append(time.perf_counter() - begun)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else "cpu"
    return 1000 * statistics.median(taken[1:]) / count, name
