"""What a recipe or a configuration can name, and the module that builds it.

To add a loss, head, augmentation, optimizer, schedule or data format: write one module with a
function ``build`` (its keyword-only parameters become keys of the configuration, its defaults their
defaults) and add one line here. A backbone is named by one word, or by a family and a model of it,
``torchvision/mobilenet_v2``; its module builds all models of the family. `source_code.code_digest` does not follow this table: a new line
concerns nobody who does not name it, so nothing that exists runs again.
"""

import importlib

REGISTRY = {
    "backbone": {
        "resnet18": "dmlstudy.compute.backbones.resnet",
        "resnet50": "dmlstudy.compute.backbones.resnet",
        "torchvision": "dmlstudy.compute.backbones.torchvision_models",
        "timm": "dmlstudy.compute.backbones.timm_models",
    },
    "loss": {
        "epshn": "dmlstudy.compute.losses.epshn",
        "arcface": "dmlstudy.compute.losses.arcface",
        "subcenter_arcface": "dmlstudy.compute.losses.subcenter_arcface",
        "proxy_nca": "dmlstudy.compute.losses.proxy_nca",
        "crossentropy": "dmlstudy.compute.losses.crossentropy",
        "simclr": "dmlstudy.compute.losses.simclr",
        "proxy_anchor": "dmlstudy.compute.losses.proxy_anchor",
        "multi_similarity": "dmlstudy.compute.losses.multi_similarity",
        "soft_triple": "dmlstudy.compute.losses.soft_triple",
        "normalized_softmax": "dmlstudy.compute.losses.normalized_softmax",
        "supcon": "dmlstudy.compute.losses.supcon",
    },
    "head": {
        "linear": "dmlstudy.compute.heads.linear",
        "skip_connection": "dmlstudy.compute.heads.skip_connection",
        "batchnorm": "dmlstudy.compute.heads.batchnorm",
        "none": "dmlstudy.compute.heads.none",
        "simclr_projection": "dmlstudy.compute.heads.simclr_projection",
    },
    "augmentation": {
        "none": "dmlstudy.compute.augmentations.none",
        "crop_flip": "dmlstudy.compute.augmentations.crop_flip",
        "simclr": "dmlstudy.compute.augmentations.simclr",
    },
    "optimizer": {
        "sgd": "dmlstudy.compute.optimizers.sgd",
        "adam": "dmlstudy.compute.optimizers.adam",
    },
    "schedule": {
        "constant": "dmlstudy.compute.schedules.constant",
        "step": "dmlstudy.compute.schedules.step",
        "cosine": "dmlstudy.compute.schedules.cosine",
    },
    "format": {
        "cub": "dmlstudy.data.formats.cub",
        "folders": "dmlstudy.data.formats.folders",
        "csv": "dmlstudy.data.formats.csv",
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


def backbone_piece(backbone):
    """The (piece, kind) of a backbone's name, such as ("backbone", "timm") of ``timm/test_vit``."""
    return "backbone", backbone.partition("/")[0]


def backbone_module(backbone):
    """Import and return the module that builds a backbone; KeyError if its family is unknown."""
    return importlib.import_module(module_name(*backbone_piece(backbone)))


def backbone_file_name(backbone):
    """A backbone's name as a part of file names: ``timm/test_vit`` is ``timm-test_vit`` there."""
    return backbone.replace("/", "-")
