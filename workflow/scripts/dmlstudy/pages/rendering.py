"""Pages: one self-contained HTML file each, from tables that the evaluation wrote."""

from pathlib import Path

import jinja2
from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render(template, **values):
    """A page from a template. Every value is escaped; what is HTML is marked so by our own code.

    Data for scripts go through the filter ``tojson``, which escapes what could end a script; a NaN
    among them raises ValueError, since JSON has none.
    """
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
    environment.filters |= {"percent": percent, "figure": figure_text, "given": given}
    return environment.get_template(template).render(plotly=plotly_library, **values)


def plotly_library():
    """The drawing library as JavaScript, for pages that draw (some 5 MB)."""
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())


def model_title(class_set):
    """What a page calls the model of a class set."""
    return class_set.replace("_", " ")


def given(value):
    """Whether a table's cell holds something."""
    return value is not None and value == value and value != ""


def percent(value):
    """A share as per cent with one decimal; a dash where there is none."""
    return f"{100 * value:.1f}" if given(value) else "–"


def figure_text(value):
    """A value of any kind; a dash where there is none."""
    if not given(value):
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
