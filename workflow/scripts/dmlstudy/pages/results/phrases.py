"""Names, numbers and durations as they stand in a sentence."""

from dmlstudy.evaluate.deductions import hundredths, share


def code(name):
    """A name as Markdown code."""
    return f"`{name}`"


def percent(value):
    return f"{hundredths(value)} %"


def whole(number):
    """A number with a comma at thousands."""
    return f"{number:,.0f}"


def duration(seconds):
    """Seconds as text in the unit that fits."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def joined(words, last="and"):
    """``a, b and c``."""
    *before, final = words
    return f"{', '.join(before)} {last} {final}" if before else final


def number_of(number, noun):
    """``1 epoch``, ``2 epochs``."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def images(study):
    return "drawn images" if study.drawn else "photographs"


def test_images(study):
    return "drawn test images" if study.drawn else "test photographs"


def with_interval(one):
    """A share with its interval, or without where there is none."""
    return share(one) if one["low"] == one["low"] else percent(one["value"])


def points(one):
    """A share as points, with its interval."""
    return share(one).replace(" %", " points")
