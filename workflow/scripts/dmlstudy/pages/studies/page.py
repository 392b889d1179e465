"""The page that shows several studies side by side. It computes nothing."""

import plotly.graph_objects as go

from dmlstudy.evaluate.deductions import hundredths
from dmlstudy.pages.charts import chart, label, style
from dmlstudy.pages.rendering import render
from dmlstudy.pages.studies.conclusions import HIGHER, LOWER, QUESTIONS, shown_data

# With fewer studies, the variance between studies can hardly be estimated.
FEW = 3


def caution(k):
    """What a mean over ``k`` studies can say, as a sentence."""
    if k == 0:
        return "No study counts: nothing can be said."
    if k == 1:
        return (
            "k = 1: one study says nothing about other data. There is no mean over studies, and tau² "
            "and I² are not defined."
        )
    if k < FEW:
        return (
            f"k = {k}: little can be said. The variance between studies is estimated from one "
            "difference, and the interval has one degree of freedom, so it is very wide."
        )
    if k < 10:
        return f"k = {k}: tau² and I² are uncertain with so few studies."
    return f"k = {k}."


def sentence(row):
    """The conclusion of one row of conclusions.csv, in words."""
    if not row["k"]:
        return caution(0)
    holds = f"{row['above_0']} of {row['k']} above 0, {row['below_0']} below 0"
    if row["k"] == 1:
        return f"{holds}. {caution(1)}"
    numbers = (
        f"{hundredths(row['mean'])} points [{hundredths(row['low'])}, {hundredths(row['high'])}]"
    )
    over = {HIGHER: "above 0", LOWER: "below 0"}.get(row["answer"], "not shown to differ from 0")
    return f"{holds}. Over all: {numbers}, {over}. {caution(row['k'])}"


def page(studies, rows, conclusions):
    """The page as HTML.

    ``studies``: the `KeptStudy`s; ``rows``, ``conclusions``: the tables of `conclusions.compared`.
    """
    blocks = []
    for number, question in enumerate(QUESTIONS):
        own = rows[rows["question"] == question.name]
        found = conclusions[conclusions["question"] == question.name].to_dict("records")
        if not found:
            continue
        for row in found:
            row["sentence"] = sentence(row)
            row["values"] = own[
                (own["experiment"] == row["experiment"])
                & (own["compared_with"] == row["compared_with"])
            ].to_dict("records")
        blocks.append(
            {
                "name": question.name,
                "id": f"question-{number}",
                "title": question.title,
                "rows": found,
                "chart": _forest(number, question, found, [study.name for study in studies]),
            }
        )
    return render(
        "studies.html.j2",
        title="Several studies side by side",
        note="",
        studies=[_facts(study) for study in studies],
        blocks=blocks,
        caution=caution(len(studies)),
        left_out=rows[~rows["counted"].astype(bool)].to_dict("records"),
    )


def _facts(study):
    """What the page says of a study."""
    dataset = study.about["dataset"]
    return {
        "name": study.name,
        "data": shown_data(study),
        **{key: dataset[key] for key in ("classes", "unseen_classes", "gallery", "queries")},
        "seeds": ", ".join(map(str, study.seeds)),
        "epochs": ", ".join(map(str, study.recipe_values("epochs"))),
        "image_size": ", ".join(map(str, study.recipe_values("image_size"))),
        "experiments": len(study.trained),
    }


def _forest(number, question, found, names):
    """Values of each study with their intervals, and the mean over all, a place for each conclusion."""
    traces, series = [], [*names, "over all"]
    for index, name in enumerate(series):
        points = [(place, *_of_study(row, name)) for place, row in enumerate(found)]
        points = [point for point in points if len(point) > 1]
        if not points:
            continue
        colour, symbol = style(index) if name != "over all" else ("#777777", "diamond")
        traces.append(
            go.Scatter(
                x=[value for _, value, _, _ in points],
                # Beside each other, so that no interval covers another; the first study on top.
                y=[-place - 0.8 * (index + 0.5) / len(series) + 0.4 for place, *_ in points],
                name=label(name),
                text=[label(found[place]["experiment"]) for place, *_ in points],
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 9},
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [high - value for _, value, _, high in points],
                    "arrayminus": [value - low for _, value, low, _ in points],
                },
            )
        )
    drawn = chart(
        f"question_{number}",
        f"{question.name}, with 95 % intervals",
        f"Dot plot: {question.title}, for each study and over all, with 95 % intervals. The table "
        "below has the numbers.",
        traces,
        x_title=question.name,
        y_title="",
        percent_x=True,
    )
    layout = drawn["spec"]["layout"]
    layout["yaxis"] |= {
        "automargin": True,
        "tickvals": [-place for place in range(len(found))],
        "ticktext": [label(row["experiment"]) for row in found],
        "range": [0.5 - len(found), 0.5],
        "zeroline": False,
    }
    layout["height"] = max(420, 160 + 24 * len(found) * len(series))
    return drawn


def _of_study(row, name):
    """(value, low, high) of a conclusion in one study or over all; () if it has none."""
    if name == "over all":
        return (row["mean"], row["low"], row["high"]) if row["k"] > 1 else ()
    for one in row["values"]:
        if one["study"] == name and one["counted"]:
            return one["value"], one["low"], one["high"]
    return ()
