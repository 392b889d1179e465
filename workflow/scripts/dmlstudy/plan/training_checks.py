"""Checks of what a training may change in its backbone, before any job."""

from dmlstudy.core import source_code
from dmlstudy.plan.recipes import RecipeError


def check_trained_parts(study):
    """A backbone must have the parts that train. ``all`` is always possible."""

    def check(entry, *keys):
        parts, backbone = entry["trained_parts"], entry["backbone"]
        kind, here = parts["kind"], (*keys, "trained_parts")
        if kind == "all":
            return
        known = study.facts_of(entry)["parts"]
        if kind == "last_blocks" and parts["blocks"] > known["blocks"]:
            if not known["blocks"]:
                raise RecipeError(f"it is not known which blocks {backbone} has", *here, "kind")
            raise RecipeError(
                f"is {parts['blocks']}, but {backbone} has {known['blocks']} blocks",
                *(*here, "blocks"),
            )
        if kind == "normalisation" and not known["normalisation"]:
            raise RecipeError(f"{backbone} has no normalisation layers with weights", *here, "kind")
        if kind == "normalisation" and entry["frozen_batchnorm"]:
            raise RecipeError("is normalisation, which frozen_batchnorm holds still", *here, "kind")
        if kind == "lora" and not known["lora"]:
            raise RecipeError(
                f"is lora, but {backbone} has no attention that is made of linear layers; lora is for "
                "transformers of timm",
                *(*here, "kind"),
            )

    for name, entry in study.experiments.items():
        check(entry, "experiments", name)
        for tried in study.candidates.get(name, {}).values():
            check(tried["recipe"], "experiments", name, "selection")
    for name, backbone in study.starts():
        if study.initializers[name]["kind"] == "trained":
            check(study.initializer_entry(name, backbone), "initializers", name, "recipe")


# Losses without weights of their own.
WEIGHTLESS = ("epshn", "multi_similarity", "simclr", "supcon")


def check_features(study):
    """What a recipe whose backbone does not train cannot have, or has no use for."""
    for name in study.on_features:
        entry = study.experiments[name]
        tried = [one["recipe"] for one in study.candidates.get(name, {}).values()]
        for recipe in [entry, *tried]:
            for key, problem in _without_backbone(recipe, study.initializers):
                raise RecipeError(
                    f"{problem}, but the backbone does not train (backbone_trains: false)",
                    *("experiments", name, key),
                )


def _without_backbone(recipe, initializers):
    """(key, what is wrong) of a complete entry whose backbone does not train."""
    start, loss, augmentation = (recipe[key] for key in ("initializer", "loss", "augmentation"))
    if initializers[start]["kind"] == "scratch":
        yield "initializer", f"is {start!r}, whose weights are random"
    if recipe["frozen_batchnorm"]:
        yield "frozen_batchnorm", "is true and would change nothing: leave it out"
    if recipe["trained_parts"]["kind"] != "all":
        yield "trained_parts", f"is {recipe['trained_parts']['kind']}, a part of the backbone"
    if recipe["backbone_lr"] is not None:
        yield "backbone_lr", "is the learning rate of the backbone: leave it out"
    if loss["kind"] == "simclr":
        yield "loss", "is simclr, which compares two random views of an image"
    if source_code.constant("augmentation", augmentation["kind"], "VIEWS") > 1:
        yield "augmentation", f"is {augmentation['kind']}, which makes random views of each image"
    if recipe["epochs"] and recipe["head"]["kind"] == "none" and loss["kind"] in WEIGHTLESS:
        yield (
            "head",
            f"is none and loss {loss['kind']} has no weights, so that nothing would train: give it a "
            "head, or epochs: 0",
        )
