"""From entries that say how they differ to complete recipes."""

import copy

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.names import did_you_mean, known_names, shown
from dmlstudy.plan.parameters import parameters
from dmlstudy.plan.recipe import Recipe

# Pieces of a recipe, which the registry builds: ``{kind: name, parameter: value, …}``.
PIECES = ("head", "loss", "augmentation", "optimizer", "schedule", "trained_parts")
# What says where an entry comes from, or how its values are found, rather than what is done.
DESCRIPTIVE = ("like", "block", "selection", "unsourced")
# Blocks of the study's table, in order: its own experiments, tuned variants, anybody else's entries,
# foundation models.
BLOCKS = PUBLISHED, TUNED, OWN, FOUNDATION = "published", "tuned", "own", "foundation"
# What an entry has if nobody gives it; the protocol gives the keys of `FROM_PROTOCOL`.
DEFAULTS = {
    "frozen_batchnorm": False,
    "loss_lr": None,
    "augmentation": {"kind": "none"},
    "schedule": {"kind": "constant"},
    **{
        key: value
        for key, value in Recipe.defaults().items()
        if key in ("backbone_trains", "trained_parts", "backbone_lr", "clip_gradients")
    },
}


# How `differences` words a key that is false, where "no …" would be no English.
NOT = {"backbone_trains": "backbone does not train"}

MISSING = object()


class RecipeError(StudyError):
    """A mistake in an entry; ``keys`` is the path of keys to it, for a message that names the place."""

    def __init__(self, message, *keys):
        super().__init__(message)
        self.keys = keys


def merged(base, changes):
    """``base`` with ``changes``. A part that names its ``kind`` replaces the base's part as a whole.

    So does a ``selection``: what to try belongs to one entry's loss.
    """
    result = copy.deepcopy(base)
    for key, value in changes.items():
        whole = key == "selection" or not isinstance(value, dict) or "kind" in value
        if not whole and isinstance(result.get(key), dict):
            result[key] = {**result[key], **value}
        else:
            result[key] = copy.deepcopy(value)
    return result


def inherited(name, entries, chain=()):
    """An entry with everything that it inherits through ``like``."""
    if name in chain:
        circle = " → ".join((*chain[chain.index(name) :], name))
        raise RecipeError(f"'like' goes round in a circle: {circle}", chain[0], "like")
    entry = entries[name]
    parent = entry.get("like")
    if parent is None:
        return merged({"block": OWN}, entry)
    if parent not in entries:
        raise RecipeError(
            f"is like {parent!r}, which does not exist{known_names(parent, entries)}", name, "like"
        )
    base = inherited(parent, entries, (*chain, name))
    if base["block"] == PUBLISHED:
        # A variant of what was published was not published.
        base["block"] = OWN
    return merged(base, entry)


def complete_piece(piece, values, keys):
    """One piece of a recipe with every parameter; those not given have their defaults.

    ``piece``: head, loss, …; ``values``: ``{"kind": name, parameter: value, …}``. Raises RecipeError,
    with the path of ``keys``, for an unknown kind or parameter and for a value out of its range.
    """
    kind = values.get("kind")
    if not isinstance(kind, str) or kind not in registry.REGISTRY[piece]:
        known = known_names(kind, registry.kinds(piece))
        raise RecipeError(f"unknown {piece} {shown(kind)}{known}", *keys, "kind")
    known = parameters(piece, kind)
    complete = {"kind": kind, **{name: one.default for name, one in known.items()}}
    for key, value in values.items():
        if key == "kind":
            continue
        if key not in known:
            names = ", ".join(known) or "none"
            raise RecipeError(
                f"{piece} {kind!r} has no such parameter; it has: {names}{did_you_mean(key, known)}",
                *keys,
                key,
            )
        mistake = known[key].mistake(value)
        if mistake:
            raise RecipeError(mistake, *keys, key)
        complete[key] = known[key].cleaned(value)
    return complete


def complete_answers(pieces, keys):
    """Ways of answering with every parameter, the nearest neighbour first whether it is listed or not.

    ``pieces``: those of ``evaluation.answers``. Raises RecipeError as `complete_piece`, and for a way that is
    given twice.
    """
    nearest = complete_piece("answer", {"kind": "nearest"}, keys)
    found = []
    for position, piece in enumerate(pieces):
        one = complete_piece("answer", piece, (*keys, position))
        if one in found:
            raise RecipeError(
                f"{one['kind']} is given twice with the same parameters", *keys, position
            )
        found.append(one)
    return [nearest, *(one for one in found if one != nearest)]


def complete(raw, defaults, learning_rate_scale, keys):
    """A complete recipe from an entry.

    ``defaults``: values of the keys of `FROM_PROTOCOL` for entries that do not give them. The
    optimizer's learning rate (and ``loss_lr``, ``backbone_lr``) is multiplied by its factor in
    ``learning_rate_scale``.
    """
    recipe = merged(
        {**DEFAULTS, **defaults}, {k: v for k, v in raw.items() if k not in DESCRIPTIVE}
    )
    for piece in PIECES:
        if piece not in recipe:
            raise RecipeError(
                f"has no {piece}; give it {piece}: {{kind: …}}, or like: and an experiment that has one",
                *keys,
            )
        recipe[piece] = complete_piece(piece, recipe[piece], (*keys, piece))
    for key in ("backbone", "initializer"):
        if key not in recipe:
            raise RecipeError(f"has no {key}", *keys)
    factor = learning_rate_scale.get(recipe["optimizer"]["kind"], 1)
    recipe["optimizer"]["lr"] *= factor
    for key in ("loss_lr", "backbone_lr"):
        if recipe[key] is not None:
            recipe[key] *= factor
    samples, batch = recipe["samples_per_class"], recipe["batch_size"]
    if samples and batch % samples:
        raise RecipeError(
            f"is {samples}, which does not divide batch_size {batch}", *keys, "samples_per_class"
        )
    return recipe


def resolve(entries, defaults, learning_rate_scale=None, prefix=()):
    """All entries as complete recipes, in order: {name: recipe}.

    ``entries``: {name: what differs, with ``like``}; ``defaults``: values for keys that no entry
    gives. Raises RecipeError with the path of keys (after ``prefix``) of the first mistake.
    """
    recipes = {}
    for name in entries:
        try:
            raw = inherited(name, entries)
        except RecipeError as error:
            error.keys = (*prefix, *error.keys)
            raise
        try:
            recipes[name] = complete(raw, defaults, learning_rate_scale or {}, (*prefix, name))
        except RecipeError as error:
            if error.keys == (*prefix, name) and "like" not in entries[name]:
                others = [other for other in entries if other != name]
                error.args = (f"{error}{did_you_mean(name, others)}",)
            error.keys = origin(name, error.keys[len(prefix) + 1 :], entries, prefix)
            raise
    return recipes


# Keys of a recipe that come from the protocol if no entry gives them.
FROM_PROTOCOL = ("epochs", "batch_size", "samples_per_class", "image_size", "eval_every")


def origin(name, keys, entries, prefix=("experiments",)):
    """The path of keys to what gives a value that the entry ``name`` has, perhaps through ``like``.

    ``keys``: of the value in a complete recipe. What no entry gives comes from the protocol.
    """
    here = name
    while here is not None:
        value = entries[here]
        for key in keys:
            value = value.get(key, MISSING) if isinstance(value, dict) else MISSING
        if value is not MISSING:
            return *prefix, here, *keys
        here = entries[here].get("like")
    if len(keys) == 1 and keys[0] in FROM_PROTOCOL and prefix == ("experiments",):
        return "protocol", *keys
    return *prefix, name, *keys


def pieces(recipe):
    """The (piece, kind) pairs of a recipe, for `source_code.code_digest`."""
    backbone = registry.backbone_piece(recipe["backbone"])
    return [backbone, *((piece, recipe[piece]["kind"]) for piece in PIECES)]


def differences(entry):
    """What an entry changes, as short text: ``loss arcface, optimizer lr 0.01``.

    The order is that of the names, whatever order the entry was written in.
    """
    words = []
    for key, value in sorted(entry.items()):
        # How often the curve gets a point is no difference between models.
        if key in (*DESCRIPTIVE, "eval_every"):
            continue
        name = key.replace("_", " ")
        if isinstance(value, dict):
            parts = [str(value["kind"])] if "kind" in value else []
            parts += [f"{k.replace('_', ' ')} {v}" for k, v in sorted(value.items()) if k != "kind"]
            words.append(f"{name} {' '.join(parts)}")
        elif isinstance(value, bool):
            words.append(name if value else NOT.get(key, f"no {name}"))
        else:
            words.append(f"{name} {value}")
    return ", ".join(words)


def differing(recipe, other, prefix=""):
    """Where two complete recipes differ: [(dotted key, value of the first, of the second)]."""
    found = []
    for key in sorted(recipe.keys() | other.keys()):
        first, second = recipe.get(key), other.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            found += differing(first, second, f"{prefix}{key}.")
        elif first != second:
            found.append((f"{prefix}{key}", first, second))
    return found


def worded(keys):
    """Dotted keys as short text, in alphabetical order: ``loss scale, samples per class``."""
    return ", ".join(sorted(key.replace("_", " ").replace(".", " ") for key in keys))
