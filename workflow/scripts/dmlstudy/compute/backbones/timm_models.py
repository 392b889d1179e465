"""Any of timm's models without its classifier: ``timm/NAME[.TAG]``; TAG names published weights."""

import re
import sys
from functools import partial

import timm
import torch
from timm.models import (
    get_arch_pretrained_cfgs,
    get_pretrained_cfg,
    group_parameters,
    model_entrypoint,
)

from dmlstudy.compute.backbones.backbone import (
    Backbone,
    MapLayers,
    Preprocessing,
    check_patches,
    pooled_width,
    unknown,
)
from dmlstudy.core.files import StudyError
from dmlstudy.data.resizing import INTERPOLATIONS
from dmlstudy.data.weights import HubWeights

# What timm calls the functions that fit a file's weights to a network, in the network's module.
FILTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")


def build(name, image_size):
    """`Backbone` of a name, randomly initialised from torch's generator.

    Raises StudyError for a name or tag that timm does not know, or a size that the network cannot take.
    """
    facts = _facts(name)
    model = name.removeprefix("timm/")
    # Other networks take any size and have no such argument.
    options = {"img_size": image_size} if facts.fixed_input_size else {}

    def make():
        network = timm.create_model(model, pretrained=False, num_classes=0, **options)
        embedding = getattr(network, "patch_embed", None)
        check_patches(name, getattr(embedding, "patch_size", None), image_size)
        return network

    width = pooled_width(make, name, image_size)
    network = make()
    classifier = facts.classifier or ()
    classifier = (classifier,) if isinstance(classifier, str) else classifier
    return Backbone(
        network,
        width,
        _preprocessing(name, facts),
        _map_layers(network),
        classifier=tuple(f"{each}." for each in classifier),
        adapt=partial(_fitted, model.partition(".")[0], network),
        blocks=_blocks(network),
    )


def published(name):
    """`HubWeights` of a name; StudyError where timm publishes none on its hub."""
    facts = _facts(name)
    if not facts.hf_hub_id:
        raise StudyError(f"{name}: timm publishes no weights of this name on its hub")
    return HubWeights(facts.hf_hub_id, facts.hf_hub_filename or "model.safetensors")


def _facts(name):
    """timm's configuration of a name's weights; StudyError for a name or tag that it does not know."""
    model = name.removeprefix("timm/")
    architecture = model.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        # Compared without tags, which would dominate the similarity of long names.
        raise unknown(f"timm/{architecture}", [f"timm/{each}" for each in known])
    tags = get_arch_pretrained_cfgs(architecture)
    if "." in model and model not in tags:
        raise unknown(name, [f"timm/{each}" for each in tags])
    facts = get_pretrained_cfg(model)
    if facts is None:
        raise StudyError(f"{name}: timm does not say what images this network wants")
    return facts


def _preprocessing(name, facts):
    if facts.interpolation not in INTERPOLATIONS:
        raise StudyError(
            f"{name}: its images are resized by {facts.interpolation}; "
            f"known: {', '.join(INTERPOLATIONS)}"
        )
    return Preprocessing(
        tuple(facts.mean), tuple(facts.std), facts.interpolation, facts.input_size[-1]
    )


def _map_layers(network):
    """Where a heat map can look.

    A transformer that pools by its class token uses only that token of its last block's output, so
    other tokens have no gradient there. Its last useful layer is the input of the last attention.
    """
    extra = getattr(network, "num_prefix_tokens", 0)
    blocks = getattr(network, "blocks", None)
    by_token = getattr(network, "global_pool", None) == "token"
    if by_token and extra and blocks is not None and hasattr(blocks[-1], "norm1"):
        return MapLayers((f"blocks.{len(blocks) - 1}.norm1",), extra)
    return MapLayers(None, extra)


def _blocks(network):
    """`Backbone.blocks` as timm groups a network's parameters: stages, or the blocks of a transformer."""
    rules = network.group_matcher(coarse=True) if hasattr(network, "group_matcher") else None
    if not isinstance(rules, dict) or next(iter(rules)) != "stem":
        return ()
    groups = group_parameters(network, rules)
    _, *blocks = (tuple(groups[number]) for number in sorted(groups))
    # What matches no rule follows the last block: a norm or an attention after it.
    patterns = [
        one if isinstance(one, str) else one[0]
        for rule in rules.values()
        for one in ([rule] if isinstance(rule, str) else rule or [])
    ]
    if len(blocks) > 1 and not any(re.match(p, n) for n in blocks[-1] for p in patterns):
        last = blocks.pop()
        blocks[-1] += last
    return tuple(blocks)


def _fitted(architecture, network, state):
    """Weights of a file as this network wants them, position embeddings resampled, by timm's function."""
    module = sys.modules[model_entrypoint(architecture).__module__]
    fit = next((getattr(module, each) for each in FILTERS if hasattr(module, each)), None)
    if fit is None:
        return state
    try:
        with torch.no_grad():
            try:
                return fit(dict(state), network)
            except TypeError:
                # As timm itself does: some functions take the weights only.
                return fit(dict(state))
    except Exception as error:
        # These functions raise all kinds of errors for weights of another network.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise StudyError(f"timm cannot fit these weights to {architecture}: {reason}") from None
