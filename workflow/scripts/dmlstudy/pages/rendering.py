"""Renders pages from templates. Each page is one self-contained HTML file."""

import functools
from pathlib import Path

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment():
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "allow_nan": False,
        "sort_keys": True,
        "separators": (",", ":"),
    }
    environment.filters |= {
        "capital": capital,
        "given": given,
        "percent": percent,
        "plain": plain,
    }
    return environment


def render(template, **values):
    """A page from a template, as a text.

    Every value is escaped unless our own code marks it as HTML. Data for scripts use the filter
    ``tojson``, which escapes what could end a script. It raises ValueError for NaN, which JSON does
    not have.
    """
    return _environment().get_template(template).render(plotly=plotly_library, **values)


def render_fragment(template, **values):
    """A piece of a page from a template, marked as HTML, so that a page can contain it."""
    return Markup(_environment().get_template(template).render(**values))


def plotly_library():
    """Plotly as JavaScript, about 5 MB, for the pages that draw charts."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def model_title(class_set):
    """The title of the model of a class set on a page."""
    return class_set.replace("_", " ")


def given(value):
    """Whether a cell of a table is not empty."""
    return value is not None and value == value and value != ""


def capital(text):
    """A text with a capital first letter; the rest stays as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def percent(value):
    """A share in per cent with one decimal; a dash for an empty cell."""
    return f"{100 * value:.1f}" if given(value) else "–"


def plain(value):
    """A value as text, a float with four decimals; a dash for an empty cell."""
    if not given(value):
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
