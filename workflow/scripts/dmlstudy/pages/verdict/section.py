"""The part of the comparison page about the verdict: sentences, accuracy against cost, tables."""

from dmlstudy.pages.charts import chart, label, line
from dmlstudy.pages.rendering import render_fragment
from dmlstudy.pages.verdict import sentences
from dmlstudy.pages.verdict.options import GROUPS, Options

# Tables of the comparison that the section shows.
TABLES = ("verdict", "verdict_costs")


def verdict_section(tables):
    """HTML of the section; empty without options. ``tables``: {name: table} with `TABLES`."""
    if tables["verdict"].empty:
        return ""
    options = Options(*(tables[name] for name in TABLES))
    shown = [row for row in options.rows if row["chosen"] or row["on_front"]]
    return render_fragment(
        "verdict.html.j2",
        headline=sentences.headline(options),
        details=sentences.details(options),
        chart=accuracy_against_cost(options),
        rows=[
            {**row, "way": sentences.way(row), "in_words": _in_words(row)}
            for row in sorted(shown, key=lambda row: _place(options, row))
        ],
        count=options.whole[0]["unseen_classes"],
        of=len(options.whole),
    )


def _in_words(row):
    """The cells of a row that hold a time."""
    keys = ("seconds_to_train_first", "seconds_to_add_a_class", "seconds_to_add_them")
    return {key: sentences.time_of(row[key]) if row[key] == row[key] else "–" for key in keys}


def _place(options, row):
    """Groups in their order; in each, more photographs first."""
    return (
        GROUPS.index((row["trained"], row["new_classes"])),
        -options.photographs.index(row["photographs"]),
        -row["harmonic_mean"],
    )


def group_title(trained, new_classes):
    """What is done in a group of options, in words."""
    before = {"nothing": "features as they are", "head": "head trained", "backbone": "trained"}
    return f"{before[trained]}, new classes {new_classes}"


def accuracy_against_cost(options):
    """Scatter plot of all options with all photographs, and the Pareto front."""
    traces = []
    rows = [row for row in options.whole if row["seconds_in_all"] == row["seconds_in_all"]]
    for index, group in enumerate(GROUPS):
        own = [row for row in rows if (row["trained"], row["new_classes"]) == group]
        if own:
            traces.append(
                line(
                    group_title(*group),
                    [row["seconds_in_all"] for row in own],
                    [row["harmonic_mean"] for row in own],
                    index=index,
                    mode="markers",
                    text=[_name(row) for row in own],
                    hovertemplate="%{text}<br>%{x:.3g} s, %{y:.1%}",
                )
            )
    front = sorted((row for row in rows if row["on_front"]), key=lambda row: row["seconds_in_all"])
    traces.append(
        line(
            "Pareto front",
            [row["seconds_in_all"] for row in front],
            [row["harmonic_mean"] for row in front],
            index=7,
            shape="hv",
            dashed=True,
            mode="lines",
            hoverinfo="skip",
        )
    )
    return chart(
        "verdict",
        f"Harmonic mean of the accuracies on seen and on {rows[0]['unseen_classes'] if rows else 'the'} new classes, "
        "against the seconds for training and for adding these classes. The dashed line is the Pareto front: "
        "no option is better in the same time. Hover over a point for its name",
        "Scatter plot: harmonic mean of the accuracies on seen and on new classes against seconds, on a "
        "logarithmic axis, a point for each option with all photographs, and the Pareto front. "
        "verdict.csv and verdict_costs.csv have the numbers.",
        traces,
        x_title="seconds, training before included",
        y_title="harmonic mean",
        percent_y=True,
        x={"type": "log"},
    )


def _name(row):
    return label(f"{row['experiment']}, {sentences.way(row)}")
