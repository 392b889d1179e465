"""Checking a configuration: schemas, values that must fit each other, and where a mistake stands."""

import copy
from collections.abc import Hashable
from pathlib import Path

import yaml

from dmlstudy.core.files import StudyError


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


def _sentence(error):
    """A jsonschema error in words, with the path of keys to it."""
    keys = list(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [key for key in error.instance if key not in known]
        return [*keys, unknown[0]], f"unknown key; known here: {', '.join(sorted(known))}"
    if error.validator == "required":
        missing = [key for key in error.validator_value if key not in error.instance]
        return [*keys, missing[0]], "is missing"
    if error.validator == "type":
        wanted = error.validator_value
        wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return keys, f"is {error.instance!r}; must be of type {wanted}"
    if error.validator == "enum":
        return keys, f"is {error.instance!r}; must be one of {error.validator_value}"
    return keys, error.message


def _fill_defaults(value, schema, root):
    """Put the schema's defaults where a mapping lacks a key."""
    schema = _followed(schema, root)
    if not isinstance(value, dict):
        return
    for key, part in schema.get("properties", {}).items():
        part = _followed(part, root)
        if key not in value and "default" in part:
            value[key] = copy.deepcopy(part["default"])
        if key in value:
            _fill_defaults(value[key], part, root)
    if isinstance(schema.get("additionalProperties"), dict):
        for key in value.keys() - schema.get("properties", {}).keys():
            _fill_defaults(value[key], schema["additionalProperties"], root)


def _followed(schema, root):
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
    return schema


def validate(config, schema_file, files):
    """Check ``config`` against a JSON schema and fill in its defaults, in place.

    Raises StudyError with one line per mistake, each naming file and key.
    """
    import jsonschema

    schema = read_yaml(schema_file)
    for path in files:
        read_yaml(path)
    errors = sorted(
        jsonschema.Draft202012Validator(schema).iter_errors(config), key=lambda e: str(e.path)
    )
    if errors:
        lines = []
        for error in errors:
            # The most precise of the alternatives that failed says what is wrong.
            while error.context:
                error = max(error.context, key=lambda e: len(e.absolute_path))
            keys, words = _sentence(error)
            lines.append(f"{place(keys, files)}: {words}")
        raise StudyError("\n".join(lines))
    _fill_defaults(config, schema, schema)
