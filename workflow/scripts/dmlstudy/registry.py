"""What a recipe or a configuration can name, and the module that builds it.

To add a loss, head, augmentation, optimizer, schedule or data format: write one module with a
function ``build`` (its keyword-only parameters become keys of the configuration, its defaults their
defaults) and add one line here. `source_code.code_digest` does not follow this table: a new line
concerns nobody who does not name it, so nothing that exists runs again.
"""

import importlib

REGISTRY = {
    "loss": {
        "epshn": "dmlstudy.losses.epshn",
        "arcface": "dmlstudy.losses.arcface",
        "subcenter_arcface": "dmlstudy.losses.subcenter_arcface",
        "proxy_nca": "dmlstudy.losses.proxy_nca",
        "crossentropy": "dmlstudy.losses.crossentropy",
        "simclr": "dmlstudy.losses.simclr",
        "proxy_anchor": "dmlstudy.losses.proxy_anchor",
        "multi_similarity": "dmlstudy.losses.multi_similarity",
        "soft_triple": "dmlstudy.losses.soft_triple",
        "normalized_softmax": "dmlstudy.losses.normalized_softmax",
        "supcon": "dmlstudy.losses.supcon",
    },
    "head": {
        "linear": "dmlstudy.heads.linear",
        "skip_connection": "dmlstudy.heads.skip_connection",
        "batchnorm": "dmlstudy.heads.batchnorm",
        "none": "dmlstudy.heads.none",
        "simclr_projection": "dmlstudy.heads.simclr_projection",
    },
    "augmentation": {
        "none": "dmlstudy.augmentations.none",
        "crop_flip": "dmlstudy.augmentations.crop_flip",
        "simclr": "dmlstudy.augmentations.simclr",
    },
    "optimizer": {
        "sgd": "dmlstudy.optimizers.sgd",
        "adam": "dmlstudy.optimizers.adam",
    },
    "schedule": {
        "constant": "dmlstudy.schedules.constant",
        "step": "dmlstudy.schedules.step",
        "cosine": "dmlstudy.schedules.cosine",
    },
    "format": {
        "cub": "dmlstudy.formats.cub",
        "folders": "dmlstudy.formats.folders",
        "csv": "dmlstudy.formats.csv",
    },
}


def module_name(kind, name):
    """Dotted name of the module behind ``name``; KeyError if there is none."""
    return REGISTRY[kind][name]


def load(kind, name):
    """Import and return the ``build`` function registered as ``name``."""
    return importlib.import_module(module_name(kind, name)).build


def names(kind):
    return sorted(REGISTRY[kind])
