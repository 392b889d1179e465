"""Where a configuration comes from: files as Snakemake reads them, and the command line."""

import json
from collections.abc import Hashable
from pathlib import Path

import yaml

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import dotted

COMMAND_LINE = "command line or profile (--config)"


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
    """A configuration file as plain values: JSON, or else YAML, with YTE if it says so, as Snakemake.

    Raises StudyError with the file, and for YAML the line, where it is broken or a key stands twice.
    """

    def different(pairs):
        found = dict(pairs)
        for key, _ in pairs:
            if sum(other == key for other, _ in pairs) > 1:
                raise StudyError(f"{path}: key {key!r} stands there twice")
        return found

    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: not UTF-8: {error}") from None
    try:
        return json.loads(text, object_pairs_hook=different) or {}
    except ValueError as error:
        if Path(path).suffix.lower() == ".json":
            raise StudyError(f"{path}: not valid JSON: {error}") from None
    try:
        loader = _StrictLoader(text)
        loader.name = str(path)
        found = loader.get_single_data() or {}
    except (yaml.YAMLError, ValueError) as error:
        raise StudyError(f"{path}: not valid YAML: {error}") from None
    if isinstance(found, dict) and found.get("__use_yte__") is True:
        import yte

        found = yte.process_yaml(text, require_use_yte=True)
    return found


def of_command_line(arguments):
    """The values of ``--config`` as a mapping. ``arguments``: texts such as ``protocol={epochs: 2}``.

    Snakemake reads all that is inside of braces or brackets as text. Here it is read as in a file.
    """
    found = {}
    for argument in arguments or ():
        key, _, text = argument.partition("=")
        try:
            value = yaml.load(text, _StrictLoader)
        except (yaml.YAMLError, ValueError):
            continue
        if isinstance(value, (dict, list)):
            found[key] = value
    return found


def content(source):
    """(name, mapping) of a source: the path of a file, or such a pair."""
    if isinstance(source, tuple):
        return source
    value = read_yaml(source) if Path(source).is_file() else {}
    return str(source), value if isinstance(value, dict) else {}


def in_order(entries, key, sources):
    """The mapping ``entries`` of a configuration's ``key``, in the order in which its sources name them.

    Snakemake puts what the command line's files name before what the workflow's own files name, so that a
    file that changes one experiment would move it to the top of every table.
    """
    named = [mapping.get(key) for _, mapping in map(content, sources)]
    order = [name for each in named if isinstance(each, dict) for name in each]
    return {name: entries[name] for name in dict.fromkeys([*order, *entries]) if name in entries}


def _says(value, keys):
    """Whether a mapping says anything about a path of keys."""
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return False
        value = value[key]
    return True


def place(keys, sources):
    """``source: key.key`` of the last source that says anything about ``keys``, or just the keys.

    Later sources go before earlier ones. As a module, the configuration is a part of the host's.
    """
    words = dotted(keys) or "the configuration"
    contents = [content(source) for source in reversed(sources)]
    for depth in range(len(keys), 0, -1):
        for name, mapping in contents:
            if _says(mapping, keys[:depth]):
                return f"{name}: {words}"
        for name, mapping in contents:
            for part, inner in mapping.items():
                if depth == len(keys) > 1 and _says(inner, keys):
                    return f"{name}: {part}.{words}"
    return words
