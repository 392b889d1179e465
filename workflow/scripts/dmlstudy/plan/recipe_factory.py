"""Recipes without a configuration, for benchmarks, tests and notebooks."""

from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.recipes import PIECES, complete_piece

# The study's baseline.
BASELINE = {
    "backbone": "resnet18",
    "frozen_batchnorm": False,
    "head": {"kind": "linear"},
    "loss": {"kind": "epshn"},
    "augmentation": {"kind": "crop_flip"},
    "optimizer": {"kind": "sgd"},
    "schedule": {"kind": "constant"},
    "trained_parts": {"kind": "all"},
    "loss_lr": None,
    "epochs": 100,
    "batch_size": 128,
    "samples_per_class": None,
    "image_size": 224,
    "precision": "auto",
    "compute_threads": 4,
    "device": "auto",
    "seed": 42,
    "eval_every": 1,
}


def make_recipe(**changes):
    """The baseline's `Recipe` with ``changes``, which replace whole fields.

    Parameters that a piece does not give have the defaults of its ``build``. Raises StudyError, as
    for a configuration, if a piece or a parameter does not exist.
    """
    values = {**BASELINE, **changes}
    pieces = {name: complete_piece(name, values[name], (name,)) for name in PIECES}
    return Recipe(**{**values, **pieces})
