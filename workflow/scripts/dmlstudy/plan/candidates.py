"""Candidates of an entry: a recipe for each combination of the values that its ``selection`` lists."""

import itertools
import json
import math
import re

from pydantic import ValidationError

from dmlstudy.core.canonical import canonical
from dmlstudy.core.names import did_you_mean, shown
from dmlstudy.plan import recipes
from dmlstudy.plan.configuration import sentence
from dmlstudy.plan.recipes import PIECES, RecipeError
from dmlstudy.plan.settings import Entry

# Keys outside the parts that may be selected. What decides which files a training needs (backbone,
# initializer, the kind of a part) or what it costs (epochs) may not.
SELECTABLE = (
    "backbone_lr",
    "batch_size",
    "clip_gradients",
    "frozen_batchnorm",
    "loss_lr",
    "samples_per_class",
)
MOST_CANDIDATES = 1000
# Names of files end at 255 bytes, and something is put before and after this one.
LONGEST_NAME = 150


def candidate_name(values):
    """``{"loss.scale": 32, "optimizer.lr": 0.01}`` as ``loss.scale=32+optimizer.lr=0.01``.

    The name is that of a file, so that a candidate keeps its result whatever other values are listed.
    Without commas: executors on other machines are told a job's wildcards in a list.
    """
    words = []
    for key, value in sorted(canonical(values).items()):
        words.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return "+".join(words)


def with_values(raw, values):
    """An entry with the values of some dotted keys (``loss.scale``) in place of its own."""
    changes = {}
    for key, value in values.items():
        part, _, parameter = key.partition(".")
        if parameter:
            changes.setdefault(part, {})[parameter] = value
        else:
            changes[part] = value
    return recipes.merged(raw, changes)


def selectable(recipe):
    """All keys that can be selected in a complete recipe."""
    parts = (f"{part}.{name}" for part in PIECES for name in recipe[part] if name != "kind")
    return [*SELECTABLE, *parts]


def _check_key(recipe, key, values, keys):
    """Raise RecipeError unless ``key`` can be selected and each value is one that it can have."""
    part, _, parameter = key.partition(".")
    if part in PIECES and parameter and parameter != "kind":
        for value in values:
            try:
                recipes.complete_piece(part, {**recipe[part], parameter: value}, keys)
            except RecipeError as error:
                raise RecipeError(str(error), *keys) from None
    elif key in SELECTABLE:
        for value in values:
            try:
                Entry.model_validate({key: value})
            except ValidationError as error:
                raise RecipeError(sentence(error.errors()[0])[1], *keys) from None
    else:
        known = (*SELECTABLE, *(f"{name}.PARAMETER" for name in PIECES))
        raise RecipeError(
            f"is no key that can be selected; those are: {', '.join(known)}"
            f"{did_you_mean(key, selectable(recipe))}",
            *keys,
        )
    for value in values:
        if values.count(value) > 1:
            raise RecipeError(f"lists {shown(value)} twice", *keys)
        # A text becomes part of a file's name.
        if isinstance(value, str) and not re.fullmatch("[A-Za-z0-9_.-]+", value):
            raise RecipeError(f"{shown(value)}: use letters, digits and _ . - only", *keys)


def candidates(raw, defaults, learning_rate_scale, keys):
    """Every combination of the values of ``raw["selection"]``: {name: {"values", "recipe"}}.

    ``raw``: an entry with all that it inherits; further arguments as for `recipes.complete`. The
    order is that of the lists, the keys in alphabetical order, the last one varying fastest.
    Raises RecipeError with the path of keys for a key or a value that the entry cannot have.
    """
    selection = raw["selection"]
    recipe = recipes.complete(raw, defaults, learning_rate_scale, keys)
    for key, values in selection.items():
        _check_key(recipe, key, values, (*keys, "selection", key))
    names = sorted(selection)
    count = math.prod(len(values) for values in selection.values())
    if count > MOST_CANDIDATES:
        raise RecipeError(
            f"asks for {count} candidates; at most {MOST_CANDIDATES} are tried", *keys, "selection"
        )
    found = {}
    for combination in itertools.product(*(selection[key] for key in names)):
        values = dict(zip(names, combination, strict=True))
        name = candidate_name(values)
        if len(name) > LONGEST_NAME:
            raise RecipeError(
                f"a candidate's name is that of a file, and {name!r} is too long for one; select fewer "
                "keys at a time",
                *(*keys, "selection"),
            )
        try:
            recipe = recipes.complete(with_values(raw, values), defaults, learning_rate_scale, keys)
        except RecipeError as error:
            raise RecipeError(f"{name}: {error.keys[-1]} {error}", *keys, "selection") from None
        found[name] = {"values": values, "recipe": recipe}
    return found


def check_budgets(planned, keys, epochs=None):
    """Raise RecipeError unless all entries have as many candidates, of as many epochs.

    ``planned``: {entry: its candidates}; ``epochs``: those of all candidates, if not their recipes'.
    A loss that was tried more often would look better.
    """
    budgets = {
        name: (len(tried), epochs or next(iter(tried.values()))["recipe"]["epochs"])
        for name, tried in planned.items()
    }
    for name, budget in budgets.items():
        first = next(iter(budgets))
        if budget != budgets[first]:
            raise RecipeError(
                f"has {budget[0]} candidates of {budget[1]} epochs, but {first!r} has "
                f"{budgets[first][0]} of {budgets[first][1]}; every entry that is selected needs the "
                "same budget, or the one that was tried more often has the better chance",
                *keys,
                name,
                "selection",
            )
