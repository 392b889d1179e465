"""The pieces that a recipe or a configuration can name, and the module that builds each.

A *piece* is a family: backbone, loss, head, augmentation, optimizer, schedule, trained parts, data
format or way of answering. A *kind* is the name that the configuration gives for it (``loss: {kind: epshn}``). To add
a kind, write one module with a function ``build`` and add one line here. The keyword-only parameters
of ``build`` become keys of the configuration, with the same defaults. `source_code.code_digest` does
not follow this table: only recipes that name a new kind use it, so nothing that exists runs again.

A backbone is named by its kind (``resnet18``), or by its kind and a model of that family
(``torchvision/mobilenet_v2``). The module of a family builds all of its models.
"""

import importlib

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import did_you_mean

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
        "adamw": "dmlstudy.compute.optimizers.adamw",
    },
    "schedule": {
        "constant": "dmlstudy.compute.schedules.constant",
        "step": "dmlstudy.compute.schedules.step",
        "cosine": "dmlstudy.compute.schedules.cosine",
    },
    "trained_parts": {
        "all": "dmlstudy.compute.trained_parts.all",
        "last_blocks": "dmlstudy.compute.trained_parts.last_blocks",
        "normalisation": "dmlstudy.compute.trained_parts.normalisation",
        "lora": "dmlstudy.compute.trained_parts.lora",
    },
    "format": {
        "cub": "dmlstudy.data.formats.cub",
        "folders": "dmlstudy.data.formats.folders",
        "csv": "dmlstudy.data.formats.csv",
        "cars196": "dmlstudy.data.formats.cars196",
        "online_products": "dmlstudy.data.formats.online_products",
        "inshop": "dmlstudy.data.formats.inshop",
        "hotels50k": "dmlstudy.data.formats.hotels50k",
        "flowers102": "dmlstudy.data.formats.flowers102",
        "pets": "dmlstudy.data.formats.pets",
        "aircraft": "dmlstudy.data.formats.aircraft",
        "food101": "dmlstudy.data.formats.food101",
    },
    "answer": {
        "nearest": "dmlstudy.evaluate.answers.nearest",
        "class_mean": "dmlstudy.evaluate.answers.class_mean",
        "centred_class_mean": "dmlstudy.evaluate.answers.centred_class_mean",
        "calibrated_class_mean": "dmlstudy.evaluate.answers.calibrated_class_mean",
        "weighted_neighbours": "dmlstudy.evaluate.answers.weighted_neighbours",
        "imprinted_classifier": "dmlstudy.evaluate.answers.imprinted_classifier",
        "lda": "dmlstudy.evaluate.answers.lda",
        "random_projection_ridge": "dmlstudy.evaluate.answers.random_projection_ridge",
    },
}


def module_name(piece, kind):
    """Dotted name of the module that builds a kind of a piece. Raises KeyError if there is none."""
    return REGISTRY[piece][kind]


def load(piece, kind):
    """Import the module of a kind of a piece and return its ``build`` function."""
    return importlib.import_module(module_name(piece, kind)).build


def kinds(piece):
    """All kinds of a piece, sorted."""
    return sorted(REGISTRY[piece])


def backbone_piece(backbone):
    """The (piece, kind) of a backbone: ("backbone", "timm") for ``timm/test_vit``."""
    return "backbone", backbone.partition("/")[0]


def unknown_family(backbone):
    """What is wrong with the family of a backbone's name, in words; None if it is registered."""
    piece, kind = backbone_piece(backbone)
    if kind in REGISTRY[piece]:
        return None
    known = ", ".join(kinds(piece))
    return (
        f"unknown backbone {backbone!r}; known: {known} (a family with its model, as in "
        f"timm/convnext_tiny){did_you_mean(backbone, kinds(piece))}"
    )


def backbone_module(backbone):
    """Import and return the module that builds a backbone; StudyError if its family is unknown."""
    mistake = unknown_family(backbone)
    if mistake:
        raise StudyError(mistake)
    return importlib.import_module(module_name(*backbone_piece(backbone)))


def on_hub(backbone):
    """Whether a backbone's own weights are published on a model hub, which has revisions."""
    return backbone_piece(backbone)[1] == "timm"


def backbone_file_name(backbone):
    """A backbone's name in file names: ``timm-test_vit`` for ``timm/test_vit``."""
    return backbone.replace("/", "-")
