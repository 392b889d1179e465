"""Names as people read them: Unicode spellings of one name, and what fits into a line of a table."""

import unicodedata

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import tables

# Control characters, halves of surrogate pairs (a name that is not UTF-8), line and paragraph ends.
_NO_LINE = ("Cc", "Cs", "Zl", "Zp")


def composed(name):
    """A name in Unicode's composed form (NFC): macOS writes ü as two characters, Linux as one."""
    return unicodedata.normalize("NFC", name)


def in_order(names):
    """Class names sorted: as numbers if all are whole numbers, else as text."""
    names = list(names)
    numbers = {name: tables.whole_number(name) for name in names}
    if None not in numbers.values():
        return sorted(names, key=lambda name: (numbers[name], name))
    return sorted(names, key=lambda name: (composed(name), name))


def look(name):
    """What is left of a name without case, blanks and invisible characters."""
    letters = unicodedata.normalize("NFKC", name).casefold()
    return "".join(
        letter
        for letter in letters
        if not letter.isspace() and unicodedata.category(letter) != "Cf"
    )


def refuse_unprintable(text, folder):
    """Raise StudyError for a class name or path that does not fit into one line of a UTF-8 table."""
    if any(unicodedata.category(letter) in _NO_LINE for letter in text):
        raise StudyError(
            f"{folder}: {text!a} contains a control character or is not UTF-8; rename it"
        )
