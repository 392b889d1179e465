"""The page of `make quick`. All numbers come from the tables of combinations."""

import shlex

import yaml

from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.evaluate.combinations import BOTH, KNOWN, SEEN, UNSEEN
from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.quick.findings import FEW, told_apart, too_few, way_in_words
from dmlstudy.pages.quick.sentences import answers, limits, milliseconds, naming, photographs_of
from dmlstudy.pages.rendering import render

# The configuration that trains, in the folder of combinations.
TRAINING = "train.yaml"


def quick_page(findings, note):
    """The page as HTML. ``findings``: a `Findings`; ``note``: a text about the data for its top."""
    best = findings.best()
    count = findings.photographs
    return render(
        "quick.html.j2",
        title=f"Which features and which way of answering? {findings.facts['name']}",
        note=note,
        photographs=count["train"] + count["test"],
        classes=count["classes"],
        tiles=_tiles(findings),
        answers=answers(findings),
        limits=limits(findings),
        matrix=_matrix(findings),
        chart=_curves(findings),
        rows=[_row(findings, row) for row in findings.rows(BOTH)],
        commands=commands(findings, best),
        naming=naming(findings),
        training=training(findings, best),
        strangers=[
            {**row, "features": findings.features(row["experiment"])}
            for row in findings.strangers.to_dict("records")
            if row["answer"] == NEAREST
        ],
    )


def _tiles(findings):
    """The figures that a reader looks for first: [{"label", "value", "text"}]."""
    best, few = findings.best(), findings.best(UNSEEN, FEW)
    parts = findings.parts(best)
    found = [
        _tile("Known classes", parts[SEEN], findings.combination(best)),
        _tile("New classes, all photographs enrolled", parts[UNSEEN], findings.combination(best)),
    ]
    if few is not None:
        found.append(
            _tile(f"New classes, {FEW} photographs enrolled", few, findings.combination(few))
        )
    own = findings.stranger({**best, "answer": NEAREST})
    if own["called_unknown"] == own["called_unknown"]:
        found.append(
            {
                "label": "Strangers called unknown",
                "value": own["called_unknown"],
                "text": f"{findings.features(best['experiment'])}, similarity to the nearest photograph",
                "few": too_few(parts[UNSEEN]),
            }
        )
    return found


def _tile(label, row, text):
    ends = {"low": row["low"], "high": row["high"]}
    return {"label": label, "value": row["value"], "text": text, "few": too_few(row), **ends}


def _matrix(findings):
    """The harmonic mean of each way (a row) with each experiment's features (a column)."""
    rows = findings.rows(BOTH)
    known = findings.accuracy
    answers = list(dict.fromkeys(known["answer"]))
    experiments = list(dict.fromkeys(known["experiment"]))
    cells = {(row["experiment"], row["answer"]): row for row in rows}
    return {
        "features": [findings.features(experiment) for experiment in experiments],
        "rows": [
            {
                "way": way_in_words(answer),
                "cells": [
                    {
                        **(cells.get((experiment, answer)) or {"value": None, "best": 0}),
                        "equal": (experiment, answer) in cells
                        and not told_apart(cells[experiment, answer]),
                    }
                    for experiment in experiments
                ],
            }
            for answer in answers
        ],
    }


def _curves(findings):
    """Accuracy of new classes by number of enrolled photographs: each way, with the best features."""
    best = findings.best()
    experiment = best["experiment"]
    ways = dict.fromkeys(
        row["answer"] for row in findings.rows(BOTH) if row["experiment"] == experiment
    )
    order = [name for name in dict.fromkeys(findings.accuracy["answer"]) if name in ways]
    traces, sizes = [], []
    for index, answer in enumerate(order):
        curve = findings.curve({"experiment": experiment, "answer": answer})
        sizes = [photographs_of(row["images_per_class"]) for row in curve]
        traces.append(
            line(
                way_in_words(answer),
                sizes,
                [row["value"] for row in curve],
                index=index,
                low=[row["low"] for row in curve],
                high=[row["high"] for row in curve],
            )
        )
    features = findings.features(experiment)
    return chart(
        "enrolment",
        f"Accuracy on new classes by number of enrolled photographs of each ({features})",
        "Line chart: accuracy on new classes by number of enrolled photographs of each, with 95 % intervals, a "
        "line for each way of answering. combinations/accuracy.csv has the numbers.",
        traces,
        x_title="photographs of each new class",
        y_title="accuracy on new classes",
        percent_y=True,
        x={"type": "category", "categoryorder": "array", "categoryarray": sizes},
    )


def _row(findings, row):
    """A row of the table of all combinations."""
    parts, cost = findings.parts(row), findings.cost(row)
    return {
        "features": findings.features(row["experiment"]),
        "way": way_in_words(row["answer"]),
        "best": row["best"],
        "equal": not told_apart(row),
        "both": row,
        "known": parts[KNOWN],
        "seen": parts[SEEN],
        "unseen": parts[UNSEEN],
        "few": findings.row(UNSEEN, row, FEW),
        "auroc": findings.stranger(row)["auroc"],
        "photograph": cost["milliseconds_a_photograph"],
        "photograph_text": milliseconds(cost["milliseconds_a_photograph"]),
        "query": cost["milliseconds_a_query"],
        "query_text": milliseconds(cost["milliseconds_a_query"]),
    }


def commands(findings, combination):
    """Commands to type next: [(what for, command)]."""
    facts = findings.facts
    run = f"{facts['results']}/experiments/{combination['experiment']}/seed{facts['seed']}/all_classes"
    configured = shlex.join(["--configfile", *facts["configfiles"]]) if facts["configfiles"] else ""
    quoted = shlex.quote(run)
    index = shlex.quote(f"{run}/index")
    answer = combination["answer"]
    way = "" if answer == NEAREST else f" --answer {shlex.quote(answer)}"
    return [
        (
            "Once: build the index of your photographs",
            f"source .venv/bin/activate\nsnakemake --cores all {index} {configured}".rstrip(),
        ),
        (
            "Name photographs",
            f"python workflow/scripts/name_photos.py --run {quoted}{way} photo.jpg more_photos/",
        ),
        (
            "Enrol a new class from a folder of photographs",
            f'python workflow/scripts/enrol.py --run {quoted} --name "Blue Tit" blue_tits/',
        ),
    ]


def training(findings, combination):
    """How to train if that is not enough: {"file", "commands"}."""
    facts = findings.facts
    file = f"{facts['results']}/combinations/{TRAINING}"
    quoted = shlex.quote(file)
    return {
        "file": file,
        "commands": f"make estimate CONFIG={quoted}\n"
        f"snakemake --cores all --resources gpu=1 --configfile {quoted}",
    }


def training_file(findings):
    """The text of the configuration that trains, from the best features."""
    best = findings.best()
    head = (
        f"# Written by make quick. Trains on the features that were best: {findings.features(best['experiment'])}.\n"
        "# A head on the frozen features takes seconds; the whole network wants a GPU. Learning rates have no\n"
        "# source: docs/tuning.md says how they are selected.\n"
    )
    values = findings.facts["training"][best["experiment"]]
    return head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def answers_text(findings, page):
    """The answers as plain text, for the terminal."""
    lines = []
    for _, question, sentences in answers(findings):
        lines += [question, *(f"  {text}" for text in sentences), ""]
    lines.append(f"The page: {page}")
    return "\n".join(lines) + "\n"
