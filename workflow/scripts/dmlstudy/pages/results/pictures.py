"""The pictures of the documentation's results, as SVG with the same bytes each time.

Text stays text. Each picture has a background of its own, and a dark one where the reader's system is
dark, so that it can be read on any page.
"""

import io

import matplotlib
from matplotlib.figure import Figure

from dmlstudy.pages.charts import COLOURS
from dmlstudy.pages.results.sentences import CHANCE
from dmlstudy.pages.results.study import UNTRAINED

PAPER, INK, GRID = "#ffffff", "#1f2328", "#d0d7de"
# Colours of a dark page, by those of a light one. Lines and points have colours that suit both.
DARK = {PAPER: "#0d1117", INK: "#e6edf3", GRID: "#3d444d"}
MARKERS = "osD^vPX*"
# Lines that a reader can tell apart.
MOST_LINES = 8
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dmlstudy",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "legend.edgecolor": GRID,
    "legend.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


def pictures(study):
    """{file name: SVG text} of one study."""
    return {
        "answer.svg": drawn(_answer, study),
        "enrolment.svg": drawn(_enrolment, study),
        "rejection.svg": drawn(_rejection, study),
    }


def drawn(draw, study):
    """The SVG of the figure that ``draw(study)`` makes, whatever settings a user has."""
    with matplotlib.rc_context(dict(matplotlib.rcParamsDefault) | SETTINGS):
        figure = draw(study)
        stream = io.StringIO()
        metadata = {"Date": None, "Creator": None}
        figure.savefig(stream, format="svg", metadata=metadata, bbox_inches="tight")
    return for_dark_pages(stream.getvalue())


def for_dark_pages(svg):
    """An SVG with a style that replaces the colours of `DARK` where the reader's system is dark."""
    rules = "".join(
        f'[style*="{kind}: {light}"] {{ {kind}: {dark} !important; }}\n'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark) {{\n{rules}}}</style>\n"
    # matplotlib writes text in the colour of the page's text without saying so if it is black.
    lines = (line.rstrip() for line in svg.splitlines())
    head, mark, rest = "\n".join(lines).partition("<defs>")
    return f"{head}{style}{mark}{rest}\n"


def _figure(height, panels=1):
    figure = Figure(figsize=(8.6, height))
    axes = figure.subplots(1, panels, sharey=panels > 1, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="x", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.tick_params(length=0)
    return figure, axes


def _names(axis, study, names):
    axis.set_yticks(range(len(names)), [_label(study, name) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)


def _label(study, name):
    return f"{name}, untrained" if name in study.untrained else name


def _dots(axis, rows, colours, factor=100):
    """Points with intervals. ``rows``: {"value", "low", "high"} or None for each line of the axis."""
    for position, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        if row is None or row["value"] != row["value"]:
            continue
        if row["low"] == row["low"]:
            ends = [factor * row["low"], factor * row["high"]]
            axis.plot(ends, [position] * 2, color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot(factor * row["value"], position, "o", color=colour, markersize=6)


def _colours(study, names):
    """Trained experiments, the classifier and rows without training have a colour each."""
    colours = {study.classifier: COLOURS[1]}
    return [
        COLOURS[7] if name in study.untrained else colours.get(name, COLOURS[0]) for name in names
    ]


def _answer(study):
    """Precision@1 of all rows, and the drop on unseen classes."""
    names = list(study.rows)
    figure, (left, right) = _figure(0.9 + 0.33 * len(names), panels=2)
    colours = _colours(study, names)
    _dots(left, [study.metric(name, "precision_at_1") for name in names], colours)
    left.set_xlabel("precision@1, all classes (%)")
    softmax = study.classifier and study.metric(study.classifier, "softmax_accuracy")
    if softmax:
        left.axvspan(
            100 * softmax["low"], 100 * softmax["high"], color=COLOURS[1], alpha=0.15, lw=0
        )
        left.axvline(100 * softmax["value"], color=COLOURS[1], linestyle="--", linewidth=1.2)
        left.set_title(
            "dashed: softmax of the classifier", fontsize=9, loc="left", color=COLOURS[1]
        )
    drops = [study.metric(name, "precision_drop_unseen_classes") for name in names]
    _dots(right, drops, colours)
    right.axvline(0, color=INK, linewidth=0.8)
    right.set_xlabel("drop on unseen classes (points)")
    _names(left, study, names)
    figure.subplots_adjust(wspace=0.08)
    return figure


def few(study):
    """Experiments for a picture of lines: all, or if they are many, those that matter most.

    The leading one, the classifier, the features that the leading one started from, then trained
    ones with the highest precision@1.
    """
    names = list(study.rows)
    if len(names) <= MOST_LINES:
        return names
    start = study.difference(study.leading, UNTRAINED)
    first = [study.leading, study.classifier, start and start["compared_with"]]
    best = sorted(study.trained, key=lambda name: -study.rows[name]["precision_at_1"])
    chosen = list(dict.fromkeys(name for name in (*first, *best) if name))[:MOST_LINES]
    return [name for name in names if name in chosen]


def _enrolment(study):
    """Accuracy on unseen classes by number of enrolled images, a line per experiment."""
    figure, (axis,) = _figure(4.2)
    axis.grid(axis="y", linewidth=0.8)
    for index, name in enumerate(few(study)):
        curve = [one for one in study.enrolment(name) if one["images"] != "0"]
        # Side by side, so that intervals can be seen.
        xs = [at + 0.05 * (index - MOST_LINES / 2) for at in range(len(curve))]
        values = [100 * one["value"] for one in curve]
        style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}
        style |= {"linestyle": "--" if name in study.untrained else "-", "markersize": 5}
        axis.plot(xs, values, label=_label(study, name), linewidth=1.4, **style)
        for x, one in zip(xs, curve, strict=True):
            if one["low"] == one["low"]:
                axis.plot(
                    [x] * 2, [100 * one["low"], 100 * one["high"]], color=style["color"], lw=0.9
                )
        axis.set_xticks(range(len(curve)), [one["images"] for one in curve])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("enrolled images of each unseen class")
    axis.set_ylabel("accuracy on unseen classes (%)")
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9)
    return figure


def _rejection(study):
    """AUROC of rejecting images of unseen classes, a line per experiment."""
    names = [name for name in study.rows if study.rejection(name)]
    figure, (axis,) = _figure(0.9 + 0.33 * len(names))
    _dots(axis, [study.rejection(name) for name in names], _colours(study, names), factor=1)
    axis.axvline(CHANCE, color=INK, linewidth=0.8)
    axis.set_xlabel("AUROC of rejecting images of unseen classes (line: guessing)")
    _names(axis, study, names)
    return figure
