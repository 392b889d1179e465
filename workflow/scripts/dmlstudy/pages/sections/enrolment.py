"""Accuracy by number of enrolled images of each unseen class."""

from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``models``: chart and table of each limited model of the first seed."""
    return {
        "models": [
            _enrolment(tables["enrolment"], class_set, experiment)
            for class_set, tables in experiment.models.items()
            if class_set != experiment.full
        ]
    }


def _enrolment(table, class_set, experiment):
    traces = []
    sizes = list(dict.fromkeys(table["images_per_class"].astype(str)))
    for index, (method, rows) in enumerate(
        table[table["model"] != experiment.full].groupby("method", sort=False)
    ):
        xs = rows["images_per_class"].astype(str).tolist()
        nearest = method == "nearest_neighbour"
        ends = {key: rows[key].tolist() for key in ("low", "high")} if nearest else {}
        title = method.replace("_", " ")
        traces.append(line(f"unseen classes, {title}", xs, rows["unseen_accuracy"].tolist(), index=index, **ends))  # fmt: skip
        if nearest:
            traces.append(line(f"seen classes, {title}", xs, rows["seen_accuracy"].tolist(), index=index, dashed=True))  # fmt: skip
    oracle = table[(table["model"] == experiment.full) & (table["method"] == "nearest_neighbour")]
    xs = oracle["images_per_class"].astype(str).tolist()
    traces.append(line("unseen classes, model of all classes", xs, oracle["unseen_accuracy"].tolist(), index=7, dashed=True))  # fmt: skip
    drawn = chart(
        f"enrolment-{class_set}",
        "Accuracy by number of enrolled images of each unseen class "
        f"({model_title(class_set)}, seed {experiment.seed})",
        "Line chart: accuracy on unseen classes, on seen classes, and of the model that was trained "
        "on all classes, by number of enrolled images. The table below has the numbers.",
        traces,
        x_title="images of each unseen class in the gallery",
        y_title="accuracy",
        percent_y=True,
        x={"type": "category", "categoryorder": "array", "categoryarray": sizes},
    )
    return {"chart": drawn, "id": class_set, "rows": table.to_dict("records")}
