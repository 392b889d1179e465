"""The schema and the reference of keys, from the typed configuration and the pieces' ``build``."""

import ast
from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from dmlstudy.core import registry, source_code
from dmlstudy.core.names import plain
from dmlstudy.plan import recipes, settings
from dmlstudy.plan.parameters import parameters

PROGRAM = "workflow/scripts/write_reference.py"
TEMPLATE = Path(__file__).with_name("reference.md")
# Mappings by name, and what stands for a name in a dotted key.
NAMES = {
    "other_datasets": "NAME",
    "initializers": "NAME",
    "experiments": "NAME",
    "backbones": "BACKBONE",
    "weights": "BACKBONE",
    "files": "FILE",
    "pretraining": "BACKBONE",
}


def schema():
    """The JSON schema as YAML text, for editors. The workflow checks with the types themselves."""
    found = settings.Configuration.model_json_schema()
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    entry = found["$defs"]["Entry"]["properties"]
    for piece in recipes.PIECES:
        entry[piece] = {**entry[piece], **_piece_schema(piece)}
    answers = found["$defs"]["Evaluation"]["properties"]["answers"]
    answers["items"] = {**_piece_schema("answer"), "required": ["kind"]}
    _tidy(found)
    head = f"# Written by {PROGRAM}. Do not edit.\n"
    return head + yaml.safe_dump(found, sort_keys=False, allow_unicode=True, width=100)


def _piece_schema(piece):
    """Kinds of a piece, and all parameters that any of them has."""
    kinds = registry.kinds(piece)
    takes = {}
    for kind in kinds:
        for name, one in parameters(piece, kind).items():
            if one.schema not in takes.setdefault(name, []):
                takes[name].append(one.schema)
    # Without a kind, the part changes that of another entry.
    properties = {
        name: takes[name][0] if len(takes[name]) == 1 else {"anyOf": takes[name]}
        for name in sorted(takes)
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"kind": {"enum": kinds}, **properties},
    }


def _tidy(schema):
    """Remove titles, and the default null of keys that cannot be null."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        nullable = {"type": "null"} in schema.get("anyOf", [])
        if schema.get("default", 0) is None and not nullable:
            del schema["default"]
        for value in schema.values():
            _tidy(value)
    elif isinstance(schema, list):
        for value in schema:
            _tidy(value)


def _nested(annotation):
    """The model of a field, and whether it is a mapping by name; (None, False) for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    arguments = getattr(annotation, "__args__", ())
    by_name = getattr(annotation, "__origin__", None) is dict
    for argument in arguments:
        model, inner = _nested(argument)
        if model:
            return model, by_name or inner
    return None, False


def all_keys(model=settings.Configuration, prefix=""):
    """(dotted key, default, range, meaning), as texts, of every key in order; recipes have their own table."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner, by_name = _nested(field.annotation)
        yield key, "" if inner else _default(field), _range(model, name), field.description
        if inner is settings.Entry or (inner and issubclass(settings.Dataset, inner) and by_name):
            continue
        if inner:
            yield from all_keys(inner, f"{key}.{NAMES[name]}." if by_name else f"{key}.")


def _default(field):
    if field.default is PydanticUndefined:
        return "required"
    return (
        f"`{yaml.safe_dump(field.default, default_flow_style=True, width=10_000).splitlines()[0]}`"
    )


@cache
def _properties(model):
    return model.model_json_schema()["properties"]


def _range(model, name):
    """The range of a key in words, from the schema of its model."""
    node = _properties(model)[name]
    node = node.get("items") or next(iter(node.get("anyOf", [node])))
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    return ", ".join(
        f"{sign} {plain(node[bound])}" for bound, sign in signs.items() if bound in node
    )


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines
    )


def _one_line(text):
    return " ".join(text.split())


def key_table():
    """All keys but those of a recipe."""
    rows = [
        [f"`{key}`", default, range_, _one_line(meaning)]
        for key, default, range_, meaning in all_keys()
    ]
    return _table(["key", "default", "range", "meaning"], rows)


def entry_table():
    """Keys of a recipe."""
    rows = [
        [f"`{name}`", _range(settings.Entry, name), _one_line(field.description)]
        for name, field in settings.Entry.model_fields.items()
    ]
    return _table(["key", "range", "meaning"], rows)


def piece_tables():
    """Kinds and parameters of each piece."""
    parts = []
    for piece in (*recipes.PIECES, "answer"):
        rows = []
        for kind in registry.kinds(piece):
            known = parameters(piece, kind)
            rows.append([f"`{kind}`", _about(piece, kind), "", "", ""])
            for name, one in known.items():
                if one.choices:
                    range_ = " or ".join(map(repr, one.choices))
                else:
                    range_ = one.range.replace(">=", "≥").replace("<=", "≤")
                default = "null" if one.default is None else one.default
                rows.append(["", f"{one.meaning}", f"`{name}`", f"`{default}`", range_])
        head = ["kind", "meaning", "parameter", "default", "range"]
        parts.append(f"### `{piece}`\n\n{_table(head, rows)}")
    return "\n\n".join(parts)


def _about(piece, kind):
    """First sentence of a piece's module docstring."""
    text = ast.get_docstring(source_code.tree_of(piece, kind))
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def reference():
    """The content of config/README.md."""
    text = TEMPLATE.read_text(encoding="utf-8")
    tables = {"KEYS": key_table(), "ENTRY": entry_table(), "PIECES": piece_tables()}
    for name, table in tables.items():
        text = text.replace(f"<!-- {name} -->", table)
    return text


def documents():
    """{path in the project: content} of all that is written from the types."""
    return {
        "workflow/schemas/config.schema.yaml": schema(),
        "config/README.md": reference(),
    }
