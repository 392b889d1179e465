"""From entries that say how they differ to complete recipes."""

import ast
import copy

from dmlstudy.core import registry, source_code
from dmlstudy.core.files import StudyError

# Parts of a recipe that are built by the registry: ``{kind: name, parameter: value, …}``.
PIECES = ("head", "loss", "augmentation", "optimizer", "schedule")
# What says where an entry comes from, or how its values are found, rather than what is done.
DESCRIPTIVE = ("like", "block", "selection", "unsourced")


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
        return merged({}, entry)
    if parent not in entries:
        raise RecipeError(
            f"is like {parent!r}, which does not exist; known: {', '.join(entries)}", name, "like"
        )
    return merged(inherited(parent, entries, (*chain, name)), entry)


def _check_value(annotation, value, keys):
    """Raise RecipeError unless ``value`` is of the type that a ``build`` function asks for."""
    wanted = annotation.replace(" ", "")
    if wanted.startswith("Literal["):
        allowed = ast.literal_eval(wanted.removeprefix("Literal"))
        if value not in allowed:
            raise RecipeError(
                f"is {value!r}; must be one of {', '.join(map(repr, allowed))}", *keys
            )
        return
    types = {"float": (int, float), "int": (int,), "str": (str,), "bool": (bool,), "None": ()}
    for option in wanted.split("|"):
        if option == "None" and value is None:
            return
        if isinstance(value, types[option]) and (option == "bool") == isinstance(value, bool):
            return
    raise RecipeError(f"is {value!r}; must be of type {annotation}", *keys)


def complete_piece(kind, part, keys):
    """A part of a recipe with every parameter, in the registry's defaults where not given."""
    name = part.get("kind")
    if name not in registry.REGISTRY[kind]:
        known = ", ".join(registry.kinds(kind))
        raise RecipeError(f"unknown {kind} {name!r}; known: {known}", *keys, "kind")
    parameters = source_code.parameters(kind, name)
    for key, value in part.items():
        if key == "kind":
            continue
        if key not in parameters:
            known = ", ".join(parameters) or "none"
            raise RecipeError(f"{kind} {name!r} has no such parameter; it has: {known}", *keys, key)
        _check_value(parameters[key][0], value, (*keys, key))
    return {
        "kind": name,
        **{key: part.get(key, default) for key, (_, default) in parameters.items()},
    }


def complete(raw, defaults, learning_rate_scale, keys):
    """A complete recipe from an entry, the study's defaults and the registry's.

    The optimizer's learning rate (and ``loss_lr``) is multiplied by its entry in
    ``learning_rate_scale``.
    """
    recipe = merged(defaults, {k: v for k, v in raw.items() if k not in DESCRIPTIVE})
    for kind in PIECES:
        if kind not in recipe:
            raise RecipeError(f"has no {kind}; give it {kind}: {{kind: …}}", *keys)
        recipe[kind] = complete_piece(kind, recipe[kind], (*keys, kind))
    for key in ("backbone", "initializer"):
        if key not in recipe:
            raise RecipeError(f"has no {key}", *keys)
    factor = learning_rate_scale.get(recipe["optimizer"]["kind"], 1)
    recipe["optimizer"]["lr"] *= factor
    if recipe["loss_lr"] is not None:
        recipe["loss_lr"] *= factor
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
        recipes[name] = complete(raw, defaults, learning_rate_scale or {}, (*prefix, name))
    return recipes


def pieces(recipe):
    """The (kind, name) pairs of a recipe's parts, for `source_code.code_digest`."""
    return [(kind, recipe[kind]["kind"]) for kind in PIECES]


def differences(entry):
    """What an entry changes, as short text: ``loss arcface, optimizer lr 0.01``.

    The order is that of the names, whatever order the entry was written in.
    """
    words = []
    for key, value in sorted(entry.items()):
        if key in DESCRIPTIVE:
            continue
        name = key.replace("_", " ")
        if isinstance(value, dict):
            parts = [str(value["kind"])] if "kind" in value else []
            parts += [f"{k.replace('_', ' ')} {v}" for k, v in sorted(value.items()) if k != "kind"]
            words.append(f"{name} {' '.join(parts)}")
        elif isinstance(value, bool):
            words.append(name if value else f"no {name}")
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
