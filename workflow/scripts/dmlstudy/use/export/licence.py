"""The licence of the weights that a run starts from, where it is known. No torch."""

# Initializers whose weights a backbone's publisher hands out.
PUBLISHED = "imagenet"


def licence(source, backbone):
    """(name for a model hub or None, sentence) for a `Source` and the name of its backbone.

    Known are licences that the configuration states (pretraining.csv) and those that timm states of its
    published weights. Nothing is guessed.
    """
    start = source.description["recipe"].get("initializer")
    after = "The photographs that it was trained on may have terms of their own."
    if source.pretraining:
        known = source.pretraining
        return (
            None,
            f"Starting weights: {known['label']}, {known['license']} ({known['source']}). {after}",
        )
    if start == "scratch":
        return None, f"No weights of others: training began from random numbers. {after}"
    if start == PUBLISHED and backbone.startswith("timm/"):
        stated = _of_timm(backbone)
        if stated:
            return stated, f"Starting weights: timm states {stated} for {backbone}. {after}"
    return None, (
        f"Not known: the weights that training began from (`{start}`, {backbone}) state no licence that this "
        f"project knows of. Ask whoever publishes them before you pass the model on. {after}"
    )


def _of_timm(backbone):
    from timm.models import get_pretrained_cfg

    facts = get_pretrained_cfg(backbone.removeprefix("timm/"))
    return None if facts is None else facts.license
