"""The experiment's recipe, key by key."""


def values(experiment):
    """``recipe``: [(dotted key, value)]."""
    return {"recipe": _flat(experiment.description["recipe"])}


def _flat(value, prefix=""):
    """A nested mapping as a list of (dotted key, value)."""
    pairs = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        pairs += _flat(item, f"{name}.") if isinstance(item, dict) else [(name, item)]
    return pairs
