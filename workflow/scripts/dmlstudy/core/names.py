"""Names and values that a person typed, in messages."""

import difflib
import json


def did_you_mean(name, known):
    """``"; did you mean X?"`` with the most similar of the ``known`` names, or an empty text."""
    spelled = {str(one).lower(): str(one) for one in known}
    nearest = difflib.get_close_matches(str(name).lower(), spelled, 1)
    return f"; did you mean {spelled[nearest[0]]}?" if nearest else ""


def dotted(keys):
    """A path of keys as text: ``protocol.epochs``. What is no text is spelled as in YAML."""
    words = (json.dumps(key) if key is None or isinstance(key, bool) else str(key) for key in keys)
    return ".".join(word if word.isprintable() else ascii(word)[1:-1] for word in words)


def known_names(name, known):
    """``"; known: A, B; did you mean A?"``: all names that there are, for a message."""
    known = list(known)
    return f"; known: {', '.join(map(str, known)) or 'none'}{did_you_mean(name, known)}"


def shown(value):
    """``repr`` of a value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def first_of(names, most=3):
    """The first ``most`` of many names, as text: ``a, b, c and 5 more``."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def without_quotes(value):
    """What to write in place of a number that is read as text, such as ``"3"`` or YAML's ``1e-3``.

    Empty for anything else.
    """
    if not isinstance(value, str):
        return ""
    try:
        return f"; it is read as text: write {float(value):.12g}, without quotes"
    except ValueError:
        return ""


def plain(number):
    """A number without an exponent if it is whole, for a range: ``4294967295``."""
    return str(int(number)) if number == int(number) else f"{number:.12g}"
