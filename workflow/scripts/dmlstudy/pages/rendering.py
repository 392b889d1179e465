"""Renders pages from templates. Each page is one self-contained HTML file."""

import base64
import functools
import gzip
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

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
    environment.globals["place"] = place
    environment.filters |= {
        "anchor": anchor,
        "capital": capital,
        "codes": codes,
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


@functools.cache
def plotly_library():
    """Plotly as JavaScript for the pages that draw charts: gzip in base64, about 2 MB instead of 5.

    The script ``charts.js`` unpacks it. Without a time in its header, gzip gives the same bytes each time.
    """
    from plotly.offline import get_plotlyjs

    packed = gzip.compress(get_plotlyjs().encode(), compresslevel=9, mtime=0)
    return Markup(base64.b64encode(packed).decode("ascii"))


def anchor(name):
    """A name as part of an id and of a link to it: other characters than letters, digits, - and _ as codes."""
    return re.sub(r"[^\w-]", lambda found: f".{ord(found[0]):x}", name, flags=re.ASCII)


def codes(text):
    """A sentence with names in backticks, as HTML with these as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def place(value, scale):
    """Where a value lies on an axis from ``scale[0]`` to ``scale[1]``, in per cent with two decimals."""
    least, most = scale
    share = (value - least) / (most - least)
    return round(100 * min(max(share, 0.0), 1.0), 2)


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
