"""Charts as plotly's JSON. The script of a page draws them in the colours of the page."""

import plotly.graph_objects as go

COLOURS = ["#1f77b4", "#d95f02", "#2a9d55", "#7b5ea7", "#c2417c", "#8a6d3b", "#2f8f9d", "#777777"]
SYMBOLS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "cross": "✚", "x": "✖"}


def style(index):
    """(colour, symbol) number ``index``. The symbol changes once all colours have been used."""
    turn = index // len(COLOURS)
    return COLOURS[index % len(COLOURS)], list(SYMBOLS)[turn % len(SYMBOLS)]


def label(text):
    """``text`` escaped for plotly, which reads tags such as <b> and entities as markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def line(
    name, xs, ys, *, index, low=None, high=None, dashed=False, shape="linear", tags=None, **options
):
    """A line as a plotly trace. Points without a value (None, NaN) are left out.

    ``low``, ``high``: interval of each point, drawn as an error bar. ``index``: number of the
    `style`. ``tags``: values by which the page filters traces.
    """
    rows = [
        (x, y, position)
        for position, (x, y) in enumerate(zip(xs, ys, strict=True))
        if y is not None and y == y
    ]
    colour, symbol = style(index)
    trace = go.Scatter(
        x=[x for x, _, _ in rows],
        y=[y for _, y, _ in rows],
        name=label(name),
        mode=options.pop("mode", "lines+markers"),
        line={"color": colour, "dash": "dash" if dashed else "solid", "shape": shape},
        # A few markers are enough to tell lines apart; short lines show all.
        marker={"color": colour, "symbol": symbol, "maxdisplayed": 0 if len(rows) < 40 else 12},
        meta=tags,
        **options,
    )
    if low is not None:
        trace.error_y = _whisker([(y, low[p], high[p]) for _, y, p in rows])
    return trace


def _whisker(points):
    """Error bars for plotly: distances of the interval ends from the value, 0 for a missing end."""
    above = [high - y if high == high else 0 for y, _, high in points]
    below = [y - low if low == low else 0 for y, low, _ in points]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "width": 3, "thickness": 1}  # fmt: skip


def chart(name, title, alt, traces, *, x_title, y_title, percent_x=False, percent_y=False, x=None):
    """A chart for a page: {"name", "title", "alt", "spec"}, where ``spec`` is plotly's JSON.

    ``alt`` describes the chart in words, for screen readers. ``x``: further settings of the x axis.
    """
    figure = go.Figure(traces)
    figure.update_layout(
        template="none",
        xaxis={"title": {"text": x_title}, "tickformat": ".0%" if percent_x else "", **(x or {})},
        yaxis={"title": {"text": y_title}, "tickformat": ".0%" if percent_y else ""},
        margin={"l": 60, "r": 15, "t": 15, "b": 50},
        height=420,
        showlegend=True,
        legend={"orientation": "h", "y": -0.2, "yanchor": "top"},
        hovermode="closest",
        hoverlabel={"namelength": -1},
    )
    return {"name": name, "title": title, "alt": alt, "spec": _plain(figure.to_plotly_json())}


def _plain(value):
    """A value as one that JSON can hold, without empty entries of mappings."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item not in (None, {}, "")}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value
