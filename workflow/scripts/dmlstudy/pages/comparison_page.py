"""Builds the page that compares all experiments. All numbers come from the comparison's tables."""

from dmlstudy.evaluate.health import CANNOT_TELL, HINT, WARNING
from dmlstudy.evaluate.health_table import WORSE_THAN_START, baseline_notice, counted
from dmlstudy.pages.charts import SYMBOLS, chart, line, points, style
from dmlstudy.pages.rendering import model_title, render
from dmlstudy.pages.verdict.section import TABLES as VERDICT_TABLES
from dmlstudy.pages.verdict.section import verdict_section

# Tables of the comparison that the page shows.
TABLES = (
    "experiments",
    "curves",
    "enrolment",
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
BLOCKS = {
    "published": "As published",
    "tuned": "Tuned variants",
    "own": "Own experiments",
    "foundation": "Foundation models",
}


def comparison_pages(tables, dataset, note, links):
    """The page of all experiments and a page for each plot: {"index", "plot_drop", …: HTML}.

    ``tables``: {name: table of the comparison} for `TABLES`. If experiments.csv has the column
    ``block``, the rows of a block are shown together. ``dataset``: name for the title; ``note``: a
    text about the data, shown at the top. ``links``: {experiment: (link from the page's folder,
    link inside a Snakemake report)}.
    """
    table = tables["experiments"]
    names = table["experiment"].tolist()
    blocks = [("", table)] if "block" not in table else list(table.groupby("block", sort=False))
    drops = ["precision_drop_unseen_classes", "precision_drop_seen_classes"]
    ends = table[[*drops, f"{drops[0]}_low", f"{drops[0]}_high"]]
    charts = [
        _accuracy_against_drop(table, names),
        _curves(tables["curves"], names),
        _enrolment(tables["enrolment"], names),
    ]
    pages = {
        f"plot_{drawn['name']}": render(
            "plot.html.j2", title=drawn["title"], note=note, drawn=_with_layout(drawn, height=1000)
        )
        for drawn in charts
    }
    pages["index"] = render(
        "index.html.j2",
        title=f"Deep metric learning for classification: {dataset}",
        note=note,
        links=links,
        first=table.iloc[0].to_dict(),
        blocks=[
            {"title": BLOCKS.get(block, block), "rows": rows.to_dict("records")}
            for block, rows in blocks
        ],
        # One scale, which contains 0, for the bars of all drops.
        drop_scale=(min(0.0, float(ends.min().min())), max(0.01, float(ends.max().max()))),
        shown=[
            {"name": name, "colour": colour, "symbol": SYMBOLS[symbol]}
            for name, (colour, symbol) in zip(names, map(style, range(len(names))), strict=True)
        ],
        # The list of experiments beside the plots serves as their legend.
        charts=[_with_layout(drawn, showlegend=False) for drawn in charts],
        **_health(tables["health"], table),
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


def _accuracy_against_drop(table, names):
    """Scatter plot: precision@1 and drop on unseen classes of each experiment."""
    accuracy, drop = "precision_at_1", "precision_drop_unseen_classes"
    return chart(
        "drop",
        "Accuracy of the all-classes model, and drop on classes that the limited model was not trained on",
        "Scatter plot: precision at 1 of the all-classes model against the drop on unseen classes, "
        "with 95 % intervals, a point for each experiment. The table above has the numbers.",
        [
            points(
                row["experiment"],
                row[accuracy],
                row[drop],
                index=names.index(row["experiment"]),
                x_interval=(row[f"{accuracy}_low"], row[f"{accuracy}_high"]),
                y_interval=(row[f"{drop}_low"], row[f"{drop}_high"]),
                tags={"experiment": row["experiment"]},
            )
            for row in table.to_dict("records")
        ],
        x_title="precision@1, all classes",
        y_title="drop, unseen classes",
        percent_x=True,
        percent_y=True,
    )


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
