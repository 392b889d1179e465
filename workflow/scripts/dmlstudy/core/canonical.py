"""Canonical values: equal meaning gives equal text, whatever the order of keys or style of numbers."""

import json


def canonical(value):
    """Return ``value`` with keys sorted, tuples as lists and whole floats as integers."""
    if isinstance(value, dict):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def canonical_json(value):
    """``value`` as compact JSON in canonical form."""
    return json.dumps(canonical(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
