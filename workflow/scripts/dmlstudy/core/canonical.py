"""One spelling for one meaning: a value as text that does not depend on key order or number style."""

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
