"""Configurations for tests: the published one, mutated, with what comes of it."""

import copy
from pathlib import Path

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import dotted
from dmlstudy.plan import configuration
from dmlstudy.plan.planning import plan
from dmlstudy.plan.recipes import RecipeError
from dmlstudy.plan.sources import read_yaml

PROJECT = Path(__file__).resolve().parents[2]
FILES = [str(PROJECT / "config" / name) for name in ("config.yaml", "experiments.yaml")]
PUBLISHED = {key: value for path in FILES for key, value in read_yaml(path).items()}


def small():
    """The published configuration with few experiments, since planning all takes longer."""
    config = copy.deepcopy(PUBLISHED)
    kept = list(config["experiments"])[:4]
    config["experiments"] = {name: config["experiments"][name] for name in kept}
    return config


def at(config, key):
    """The mapping that holds a dotted key, and its last part. Names stand for themselves."""
    *path, last = key.split(".")
    for part in path:
        config = config.setdefault(part, {})
    return config, last


def describe(names, image_size):
    """Facts of backbones without a program that is asked: families exist, models are not looked up."""
    known = {
        "interpolation": "bilinear",
        "batchnorm": True,
        "unpublished": None,
        "parts": {"blocks": 4, "normalisation": True, "lora": True},
    }
    problems = {name: registry.unknown_family(name) for name in names}
    return {name: {"problem": problems[name]} if problems[name] else known for name in names}


def refusal(config):
    """The sentences with which a configuration is refused, or None. Nothing else is raised.

    Each has the form ``source: keys: words``; the source is left out.
    """
    try:
        configuration.validate(config, [])
        plan(config, describe)
    except RecipeError as error:
        return f"{dotted(error.keys)}: {error}"
    except StudyError as error:
        return str(error)
    return None
