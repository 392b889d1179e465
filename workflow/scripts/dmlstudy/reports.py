"""What the pages show: tables and charts, in the order in which they are read."""

from dmlstudy.pages import chart, render

TITLES = {
    "all_classes": "all classes",
    "limited_classes": "limited classes",
}


def _title(class_set):
    return TITLES.get(class_set, class_set.replace("_", " "))


def experiment_page(name, recipe, figures, runs, class_sets, note):
    """One experiment's page as HTML.

    ``recipe``: its description, a mapping. ``figures``: its figures.csv. ``runs``: per seed ``{"seed", "models": {class set:
    {"summary", "curve", "metrics", "report", "scalars", "comparison"}}}`` (the last two for limited
    ones). ``class_sets``: the table of class sets. ``note``: what is said of the data on top.
    """
    losses, accuracies = [], []
    for run in runs:
        for class_set, model in run["models"].items():
            label = _title(class_set)
            if len(runs) > 1:
                label += f", seed {run['seed']}"
            curve = model["curve"]
            losses.append((label, curve["epoch"].tolist(), curve["train_loss"].tolist()))
            accuracies.append((label, curve["epoch"].tolist(), curve["test_accuracy"].tolist()))
    charts = [
        chart(
            accuracies,
            title="Test accuracy while training (known classes)",
            x_title="epoch",
            y_title="precision@1",
            name="accuracy",
        ),
        chart(losses, title="Training loss", x_title="epoch", y_title="loss", name="loss"),
    ]
    scalars = []
    for run in runs:
        for class_set, model in run["models"].items():
            for key, value in {**model["summary"], **model.get("scalars", {})}.items():
                scalars.append((run["seed"], _title(class_set), key.replace("_", " "), value))
    sections = []
    for run in runs:
        for class_set, model in run["models"].items():
            if "comparison" not in model:
                continue
            seen = class_sets[class_sets["class_set"] == class_set].sort_values("class_id")["seen"]
            table = model["comparison"].assign(
                seen=["seen" if value else "unseen" for value in seen],
                test_samples=model["metrics"]["test_samples"],
                train_samples=model["metrics"]["train_samples"],
            )
            table["drop"] = (
                table["all_classes_precision_at_1"] - table["limited_classes_precision_at_1"]
            )
            table = table.sort_values("all_classes_precision_at_1", kind="stable")
            sections.append(
                {
                    "seed": run["seed"],
                    "title": _title(class_set),
                    "rows": table.to_dict("records"),
                }
            )
    reports = [
        {
            "seed": run["seed"],
            "title": _title(class_set),
            "rows": model["report"].to_dict("records"),
        }
        for run in runs
        for class_set, model in run["models"].items()
    ]
    return render(
        "report.html.j2",
        title=name,
        note=note,
        details=recipe["details"],
        recipe=_flat(recipe["recipe"]),
        figures=figures.to_dict("records"),
        charts=charts,
        scalars=scalars,
        sections=sections,
        reports=reports,
    )


def _flat(value, prefix=""):
    """A nested mapping as (dotted key, value) pairs."""
    pairs = []
    for key, item in value.items():
        name = f"{prefix}{key}"
        pairs += _flat(item, f"{name}.") if isinstance(item, dict) else [(name, item)]
    return pairs


def index_page(table, published, deductions, dataset, note):
    """The page of all experiments as HTML.

    ``table``: experiments.csv; ``published``: published.csv; ``deductions``:
    published_deductions.csv of the comparison.
    """
    return render(
        "index.html.j2",
        title=f"Deep metric learning for classification: {dataset}",
        note=note,
        rows=table.to_dict("records"),
        published=published.to_dict("records"),
        deductions=deductions.to_dict("records"),
    )
