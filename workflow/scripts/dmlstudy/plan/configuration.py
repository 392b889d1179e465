"""Checking the types and ranges of a configuration, and telling mistakes in words."""

import typing

from pydantic import BaseModel, ValidationError

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import known_names, plain, shown, without_quotes
from dmlstudy.plan.setting_types import PATTERNS
from dmlstudy.plan.settings import Configuration
from dmlstudy.plan.sources import content, place

TYPES = {
    "int_type": "integer",
    "int_from_float": "integer",
    "float_type": "number",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "list",
    "dict_type": "mapping",
    "model_type": "mapping",
}
NUMBERS = ("int_type", "int_from_float", "float_type")
BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}


def _known_keys(model, keys):
    """Field names of the mapping at ``keys`` below a model."""
    for key in keys:
        if isinstance(key, int):
            # A place in a list, whose type was already taken apart below.
            continue
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[key].annotation
        else:
            # A mapping by name, whose values are of one type.
            model = typing.get_args(model)[-1]
        while not isinstance(model, type) and typing.get_origin(model) is not dict:
            model = next(one for one in typing.get_args(model) if one is not type(None))
    return sorted(model.model_fields)


def _instead(kind, value):
    """What to write in place of a value of another type, in words; often empty."""
    if kind == "string_type" and not isinstance(value, (dict, list)):
        return "; put it into quotes"
    return without_quotes(value) if kind in NUMBERS else ""


def sentence(error):
    """(keys, words) of one error of pydantic."""
    kind, keys, value = error["type"], list(error["loc"]), error["input"]
    is_ = f"is {shown(value)}; "
    if keys and keys[-1] == "[key]":
        # pydantic writes false as 0 there; the input is the name as it was read.
        keys, name = keys[:-2], value
        if not isinstance(name, str):
            return [*keys, name], _unquoted(name)
        return [*keys, name], _text_mistake(error)
    if kind == "invalid_key":
        # As above, the input is the name.
        return [*keys[:-1], value], _unquoted(value)
    if kind == "extra_forbidden":
        known = _known_keys(Configuration, keys[:-1])
        return keys, f"unknown key{known_names(keys[-1], known).replace('known', 'known here', 1)}"
    if kind == "missing":
        return keys, "is missing"
    if kind in TYPES:
        return keys, f"{is_}must be of type {TYPES[kind]}{_instead(kind, value)}"
    if kind in BOUNDS:
        sign, bound = BOUNDS[kind]
        return keys, f"{is_}must be {sign} {plain(error['ctx'][bound])}"
    if kind == "literal_error":
        return keys, f"{is_}must be one of {error['ctx']['expected']}"
    if kind in ("too_short", "string_too_short"):
        return keys, f"{is_}must not be empty"
    if kind == "too_long":
        return (
            keys,
            f"has {error['ctx']['actual_length']} values; at most {error['ctx']['max_length']}",
        )
    if kind == "string_too_long":
        return keys, f"{is_}must have at most {error['ctx']['max_length']} characters"
    if kind == "finite_number":
        return keys, f"{is_}must be a finite number"
    if kind == "value_error":
        return keys, f"{is_}{error['ctx']['error']}"
    return keys, f"{is_}{_text_mistake(error)}"


def _unquoted(name):
    """What YAML read in place of a name such as 2024, no or null."""
    kinds = {bool: "true or false", int: "a number", float: "a number", type(None): "nothing"}
    return f"is read as {kinds.get(type(name), type(name).__name__)}; put the name into quotes"


def _text_mistake(error):
    if error["type"] == "string_pattern_mismatch" and error["ctx"]["pattern"] in PATTERNS:
        return PATTERNS[error["ctx"]["pattern"]]
    return f"{error['msg'][0].lower()}{error['msg'][1:]}"


def validate(config, sources):
    """Check ``config`` against `settings.Configuration` and fill in its defaults, in place.

    ``sources``: where it comes from, see `sources.place`, to name the one that holds a mistake. Raises
    StudyError with one line per mistake, each naming source and key.
    """
    for source in sources:
        content(source)
    try:
        checked = Configuration.model_validate(config)
    except ValidationError as error:
        mistakes = map(sentence, error.errors())
        lines = [f"{place(keys, sources)}: {words}" for keys, words in mistakes]
        raise StudyError("\n".join(lines)) from None
    config.clear()
    config.update(checked.model_dump())
