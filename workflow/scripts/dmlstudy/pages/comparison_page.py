"""Builds the page that compares all experiments. All numbers come from the comparison's tables."""

import itertools

from dmlstudy.evaluate.health import CANNOT_TELL, HINT, WARNING
from dmlstudy.evaluate.health_table import WORSE_THAN_START, baseline_notice, counted
from dmlstudy.pages.charts import SYMBOLS, chart, line, style
from dmlstudy.pages.main_table import main_table
from dmlstudy.pages.rendering import model_title, render
from dmlstudy.pages.results.cards import cards, without_card
from dmlstudy.pages.results.phrases import images, test_images
from dmlstudy.pages.results.sentences import remarks
from dmlstudy.pages.scatter import scatter
from dmlstudy.pages.verdict.section import TABLES as VERDICT_TABLES
from dmlstudy.pages.verdict.section import verdict_section

# Tables of the comparison that the page shows.
TABLES = (
    "experiments",
    "metrics",
    "differences",
    "curves",
    "enrolment",
    "rejection",
    "rejection_scores",
    "rejection_thresholds",
    "health",
    "costs",
    "published",
    "published_deductions",
    "pretraining",
    "answers",
    *VERDICT_TABLES,
)
# Wanted share of accepted photographs whose thresholds the page shows; the table has others.
SHOWN_SHARE = 0.95
SCATTER_TITLE = "Accuracy of the model of all classes against the drop on classes that the limited model was not trained on"
BLOCKS = {
    "published": "As published",
    "tuned": "Tuned variants",
    "own": "Own experiments",
    "foundation": "Foundation models",
}


def comparison_pages(study, photographs, side, note, links):
    """The page of all experiments and a page for each plot: {"index", "plot_drop", …: HTML}.

    ``study``: a `study.Study` with the tables of `TABLES`. If experiments.csv has the column ``block``,
    the rows of a block are shown together. ``note``: a text about the data, shown at the top.
    ``photographs``: a `strip.strip` of the data set; ``side``: see `side_by_side.side_by_side`. ``links``: {experiment: (link from the page's folder, link inside a Snakemake report)}.
    """
    tables = study.tables
    table = tables["experiments"]
    names = table["experiment"].tolist()
    health = _health(tables["health"], table)
    main = main_table(study, health["counts"])
    filtered = [_curves(tables["curves"], names), _enrolment(tables["enrolment"], names)]
    against_drop = scatter(study, {row["experiment"]: row["kind"] for row in main["rows"]})
    pages = {
        f"plot_{drawn['name']}": render(
            "plot.html.j2", title=drawn["title"], note=note, drawn=_with_layout(drawn, height=1000)
        )
        for drawn in filtered
    }
    pages["plot_drop"] = render(
        "plot_drop.html.j2", title=SCATTER_TITLE, note=note, scatter=against_drop, links=links
    )
    pages["index"] = render(
        "index.html.j2",
        title=f"Deep metric learning for classification: {study.about['dataset']['name']}",
        note=note,
        links=links,
        first=table.iloc[0].to_dict(),
        images=images(study),
        test_images=test_images(study),
        photographs=photographs,
        side=side,
        leading=study.leading,
        cards=cards(study),
        other_answers=without_card(study),
        remarks=remarks(study),
        scatter=against_drop,
        table={**main, "by_key": {group.key: group for group in main["groups"]}},
        blocks=[
            {"name": block, "title": BLOCKS.get(block, block), "rows": list(rows)}
            for block, rows in itertools.groupby(main["rows"], key=lambda row: row["block"])
        ],
        shown=[
            {"name": name, "colour": colour, "symbol": SYMBOLS[symbol]}
            for name, (colour, symbol) in zip(names, map(style, range(len(names))), strict=True)
        ],
        # The list of experiments beside the plots serves as their legend.
        charts=[_with_layout(drawn, showlegend=False) for drawn in filtered],
        **health,
        **_rejection(tables["rejection_scores"], tables["rejection_thresholds"]),
        costs=tables["costs"].to_dict("records"),
        pretraining=tables["pretraining"].to_dict("records"),
        answers=[
            {**row, "model": model_title(row["class_set"])}
            for row in tables["answers"].to_dict("records")
        ],
        verdict=verdict_section(tables),
        published=tables["published"].to_dict("records"),
        deductions=tables["published_deductions"].to_dict("records"),
    )
    return pages


def _health(health, table):
    """What the page says of the health of all trainings; ``table``: experiments.csv.

    ``notice``: sentences for the head of the page, if the baseline is worse than before training;
    ``counts``: {experiment: its warnings and hints in words}; ``findings``: rows of warnings and hints,
    warnings first; ``without_start``: experiments that cannot be compared with their start.
    """
    baselines = table["baseline"].dropna().unique()
    rows = [{**row, "model": model_title(row["class_set"])} for row in health.to_dict("records")]
    untold = (health["sign"] == WORSE_THAN_START) & (health["finding"] == CANNOT_TELL)
    return {
        "notice": [text for name in baselines for text in baseline_notice(health, name)],
        "baseline": ", ".join(baselines),
        "counts": {
            name: counted(found) for name, found in health.groupby("experiment", sort=False)
        },
        "findings": [row for kind in (WARNING, HINT) for row in rows if row["finding"] == kind],
        "without_start": list(health[untold]["experiment"].unique()),
    }


def _rejection(scores, thresholds):
    """Rows of the limited models for the page: scores, and thresholds of the default rate."""
    own = thresholds[
        (thresholds["model"] == thresholds["class_set"])
        & (thresholds["accepted_share"] == SHOWN_SHARE)
    ]
    return {
        "rejection_scores": scores[scores["model"] == scores["class_set"]].to_dict("records"),
        "rejection_thresholds": [
            {**row, "way": model_title(row["way"])} for row in own.to_dict("records")
        ],
        "shown_share": SHOWN_SHARE,
    }


def _with_layout(drawn, **layout):
    """A chart with some values of its layout changed."""
    spec = drawn["spec"]
    return {**drawn, "spec": {**spec, "layout": {**spec["layout"], **layout}}}


def _curves(curves, names):
    """Line chart: test accuracy by epoch of each run."""
    traces = []
    seeds = curves["seed"].nunique()
    for (name, seed, class_set), rows in curves.groupby(
        ["experiment", "seed", "class_set"], sort=False
    ):
        label = f"{name}, {model_title(class_set)}" + (f", seed {seed}" if seeds > 1 else "")
        traces.append(
            line(
                label,
                rows["epoch"].tolist(),
                rows["test_accuracy"].tolist(),
                index=names.index(name),
                dashed=class_set != "all_classes",
                tags={"experiment": name, "model": class_set},
            )
        )
    return chart(
        "curves",
        "Test accuracy during training (classes that the model was trained on; limited models dashed)",
        "Line chart: precision at 1 on the test images of known classes, by epoch, for both models "
        "of each experiment.",
        traces,
        x_title="epoch",
        y_title="precision@1",
        percent_y=True,
    )


def _enrolment(enrolment, names):
    """Line chart: accuracy by enrolled images, for the first seed and draw of unseen classes."""
    first = enrolment.iloc[0]
    own = enrolment[
        (enrolment["seed"] == first["seed"])
        & (enrolment["class_set"] == first["class_set"])
        & (enrolment["model"] == first["class_set"])
        & (enrolment["method"] == "nearest_neighbour")
    ]
    traces = [
        line(
            name,
            rows["images_per_class"].astype(str).tolist(),
            rows["unseen_accuracy"].tolist(),
            index=names.index(name),
            low=rows["low"].tolist(),
            high=rows["high"].tolist(),
            tags={"experiment": name},
        )
        for name, rows in own.groupby("experiment", sort=False)
    ]
    sizes = list(dict.fromkeys(own["images_per_class"].astype(str)))
    return chart(
        "enrolment",
        "Accuracy on unseen classes by number of enrolled images of each "
        f"({model_title(first['class_set'])}, seed {first['seed']}, nearest neighbour)",
        "Line chart: accuracy of the limited model on unseen classes by number of enrolled "
        "images of each, with 95 % intervals, for each experiment.",
        traces,
        x_title="images of each unseen class in the gallery",
        y_title="accuracy on unseen classes",
        percent_y=True,
        x={"type": "category", "categoryorder": "array", "categoryarray": sizes},
    )
