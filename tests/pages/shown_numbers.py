"""Numbers of a page beside those of the tables that they come from.

A page is read in the browser, tables as texts with `csv`. How a number is written is stated here once more, so
that a page that rounds or joins in another way is found.
"""

import csv
import json
import math

# Everything that a reader sees of all tables with an id: {id: [[text of a cell]]}. Bars and thumbnails have no text.
TABLES = """() => Object.fromEntries([...document.querySelectorAll('main table')].map(table => [table.id,
  [...table.tBodies].flatMap(body => [...body.rows]).map(row => [...row.cells].map(cell => {
    const own = cell.cloneNode(true);
    own.querySelectorAll('br').forEach(one => one.replaceWith('|'));
    return own.textContent.trim(); }))]))"""
CHARTS = """() => [...document.querySelectorAll('figure.chart')].map(one =>
  [one.id.slice('chart-'.length), one.querySelector('script').textContent])"""


def tables_of(page):
    return page.evaluate(TABLES)


def charts_of(page):
    """{chart: {trace: (xs, ys, lows, highs)}}; without whiskers the last two are empty."""
    found = {}
    for name, text in page.evaluate(CHARTS):
        found[name] = {}
        for trace in json.loads(text)["data"]:
            ys, ends = trace["y"], trace.get("error_y", {})
            lows = [y - end for y, end in zip(ys, ends.get("arrayminus", []), strict=False)]
            highs = [y + end for y, end in zip(ys, ends.get("array", []), strict=False)]
            # The name is escaped for plotly.
            name_of = trace["name"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
            found[name][name_of] = (trace["x"], ys, lows, highs)
    return found


def rows_of(path, **wanted):
    """Rows of a table as texts, those with the wanted values."""
    with open(path, encoding="utf-8", newline="") as stream:
        return [
            row
            for row in csv.DictReader(stream)
            if all(row[key] in (value if isinstance(value, tuple) else (value,))
                   for key, value in wanted.items())
        ]  # fmt: skip


# How a cell is written: functions from a row of a table to a text.


def as_is(key):
    return lambda row: row[key].strip()


def words(key):
    return lambda row: row[key].replace("_", " ")


def percent(key):
    return lambda row: f"{100 * float(row[key]):.1f}" if row[key] else "–"


def share(key):
    """A share and, on the next line, its interval."""
    ends = [percent(f"{key}_{end}") for end in ("low", "high")]

    def write(row):
        text = percent(key)(row)
        return f"{text}|{ends[0](row)} to {ends[1](row)}" if row.get(f"{key}_low") else text

    return write


def formatted(key, form, factor=1.0):
    return lambda row: format(float(row[key]) / factor, form) if row[key] else "–"


def plain(key):
    """An integer as it stands, a number with a point with four decimals."""

    def write(row):
        text = row[key]
        if not text:
            return "–"
        return f"{float(text):.4f}" if any(one in text for one in ".en") else text

    return write


def seconds(key):
    """A time in the unit that fits: milliseconds below a second, minutes from 60 seconds, hours from 60 minutes."""

    def write(row):
        if not row[key]:
            return "an unknown time"
        value = float(row[key])
        if value < 1:
            return f"{1000 * value:.3g} milliseconds"
        for unit, size in (("hours", 3600), ("minutes", 60)):
            if value >= size:
                return f"{value / size:.1f} {unit}"
        return f"{value:.1f} seconds"

    return write


def expected(rows, *writers):
    return [[write(row) for write in writers] for row in rows]


def wrong_cells(shown, wanted, ordered=True):
    """What differs between the rows of a page and those of a table, as texts; empty if nothing does."""
    if not ordered:
        shown, wanted = sorted(shown), sorted(wanted)
    if len(shown) != len(wanted):
        return [f"{len(shown)} rows are shown, the table has {len(wanted)}"]
    return [
        f"row {place}, column {column}: {cell!r} is shown, the table has {own!r}"
        for place, (row, other) in enumerate(zip(shown, wanted, strict=True))
        for column, (cell, own) in enumerate(zip(row, other, strict=True))
        if cell != own
    ]


def numbers(rows, key):
    """The numbers of a column; NaN for an empty cell."""
    return [float(row[key]) if row[key] else math.nan for row in rows]


def points(rows, x, y, low=None, high=None, number=True):
    """What `charts_of` finds for a trace of these rows."""
    rows = [row for row in rows if row[y]]
    xs = numbers(rows, x) if number else [row[x] for row in rows]
    ys = numbers(rows, y)
    if low is None:
        return xs, ys, [], []
    ends = [[end if end == end else one for one, end in zip(ys, numbers(rows, key), strict=True)]
            for key in (low, high)]  # fmt: skip
    return xs, ys, *ends


def wrong_traces(shown, wanted):
    """What differs between the traces of a chart and those of a table, as texts."""
    found = [f"trace {name!r} is on one side only" for name in shown.keys() ^ wanted.keys()]
    for name in shown.keys() & wanted.keys():
        for part, own, other in zip(
            ["x", "y", "low", "high"], shown[name], wanted[name], strict=True
        ):
            same = len(own) == len(other) and all(
                one == two if isinstance(two, str) else abs(one - two) < 1e-9
                for one, two in zip(own, other, strict=True)
            )
            if not same:
                found.append(f"{part} of {name!r}: {own} is shown, the table has {other}")
    return found
