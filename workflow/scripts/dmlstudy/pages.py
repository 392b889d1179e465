"""Pages: one self-contained HTML file each, from tables that the evaluation wrote."""

from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

TEMPLATES = Path(__file__).parent / "templates"
COLOURS = ["#1f77b4", "#d95f02", "#2a9d55", "#7b5ea7", "#c2417c", "#8a6d3b", "#4c7a86", "#777777"]


def render(template, **values):
    """A page from a template. Every value is escaped; what is HTML is marked so by our own code."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = figure_text
    return environment.get_template(template).render(plotly=Markup(get_plotlyjs()), **values)


def percent(value):
    """A share as per cent with one decimal; a dash where there is none."""
    return "–" if value is None or value != value else f"{100 * value:.1f}"


def figure_text(value):
    if value is None or value != value:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def chart(traces, *, title, x_title, y_title, name):
    """A plotly chart as HTML without the library, which the page holds once.

    ``traces``: list of (label, x values, y values); missing values (None, NaN) are left out.
    """
    chart = go.Figure()
    for index, (label, xs, ys) in enumerate(traces):
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and y == y]
        chart.add_scatter(
            x=[x for x, _ in points],
            y=[y for _, y in points],
            name=label,
            mode="lines+markers" if len(points) < 40 else "lines",
            line={"color": COLOURS[index % len(COLOURS)]},
        )
    chart.update_layout(
        title={"text": title},
        xaxis={"title": {"text": x_title}},
        yaxis={"title": {"text": y_title}},
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        height=380,
        showlegend=True,
        legend={"orientation": "h", "y": -0.2},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"color": "#888888"},
    )
    html = chart.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config={"displaylogo": False, "responsive": True},
    )
    return Markup(html)
