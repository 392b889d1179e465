"""Reading a configuration, checking its types and ranges, and naming the place of a mistake."""

from collections.abc import Hashable
from pathlib import Path
from typing import get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from dmlstudy.core.files import StudyError
from dmlstudy.plan.settings import Configuration


class _StrictLoader(yaml.SafeLoader):
    """A YAML loader that refuses a key that stands twice: the first would be lost unseen."""


def _mapping(loader, node):
    seen = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        # A key that is a list or a mapping is refused, with its line, by the loader itself.
        if not isinstance(key, Hashable):
            continue
        if key in seen:
            line = key_node.start_mark.line + 1
            raise StudyError(f"{loader.name}:{line}: key {key!r} stands there twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path):
    """A YAML file as plain values; StudyError with file and line where it is broken."""
    try:
        with open(path, encoding="utf-8") as stream:
            return yaml.load(stream, _StrictLoader) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None


def place(keys, files):
    """``file: key.key`` of the last file that says anything about ``keys``, or just the keys."""
    dotted = ".".join(str(key) for key in keys) or "the configuration"
    for depth in range(len(keys), 0, -1):
        for path in reversed(files):
            value = read_yaml(path) if Path(path).is_file() else {}
            for key in keys[:depth]:
                if isinstance(value, dict) and key in value:
                    value = value[key]
                else:
                    break
            else:
                return f"{path}: {dotted}"
    return dotted


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
BOUNDS = {
    "greater_than": (">", "gt"),
    "greater_than_equal": (">=", "ge"),
    "less_than": ("<", "lt"),
    "less_than_equal": ("<=", "le"),
}
NAME = "a name has letters, digits and _ + . - only, and begins with a letter or a digit"


def _known_keys(model, keys):
    """Field names of the mapping at ``keys`` below a model."""
    for key in keys:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[key].annotation
        else:
            # A mapping by name, whose values are of one type.
            model = get_args(model)[-1]
        while not isinstance(model, type) and get_origin(model) is not dict:
            model = next(one for one in get_args(model) if one is not type(None))
    return sorted(model.model_fields)


def _sentence(error):
    """(keys, words) of one error of pydantic."""
    kind, keys, value = error["type"], list(error["loc"]), error["input"]
    if keys and keys[-1] == "[key]":
        # pydantic writes false as 0 there; the input is the name as it was read.
        keys, name = keys[:-2], value
        if not isinstance(name, str):
            return [*keys, name], f"is read as {type(name).__name__}; put the name into quotes"
        return [*keys, name], NAME
    if kind == "extra_forbidden":
        known = ", ".join(_known_keys(Configuration, keys[:-1]))
        return keys, f"unknown key; known here: {known}"
    if kind == "missing":
        return keys, "is missing"
    if kind in TYPES:
        return keys, f"is {value!r}; must be of type {TYPES[kind]}"
    if kind in BOUNDS:
        sign, bound = BOUNDS[kind]
        return keys, f"is {value!r}; must be {sign} {error['ctx'][bound]:g}"
    if kind == "literal_error":
        return keys, f"is {value!r}; must be one of {error['ctx']['expected']}"
    if kind == "too_short":
        return keys, f"is {value!r}; must not be empty"
    if kind == "value_error":
        return keys, f"is {value!r}; {error['ctx']['error']}"
    return keys, f"is {value!r}; {error['msg'][0].lower()}{error['msg'][1:]}"


def validate(config, files):
    """Check ``config`` against `settings.Configuration` and fill in its defaults, in place.

    ``files``: the configuration files, to name the one that holds a mistake. Raises StudyError with
    one line per mistake, each naming file and key.
    """
    for path in files:
        read_yaml(path)
    try:
        checked = Configuration.model_validate(config)
    except ValidationError as error:
        mistakes = map(_sentence, error.errors())
        lines = [f"{place(keys, files)}: {words}" for keys, words in mistakes]
        raise StudyError("\n".join(lines)) from None
    config.clear()
    config.update(checked.model_dump())
