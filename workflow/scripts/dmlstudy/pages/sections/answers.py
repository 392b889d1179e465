"""Ways of answering beside the nearest neighbour: accuracy, rejection and enrolled images."""

from dmlstudy.pages.charts import chart, line
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``rows``: of answers.csv; ``charts``: one of enrolled images per limited model.

    Times are not shown: the page would be another one each time that it is made.
    """
    tables = experiment.answers
    rows = tables["answers"].assign(model=tables["answers"]["class_set"].map(model_title))
    curves = tables["answers_enrolment"]
    curves = curves[curves["seed"] == experiment.seed]
    return {
        "rows": rows.to_dict("records"),
        "charts": [
            _curve(class_set, table, experiment.seed)
            for class_set, table in curves.groupby("class_set", sort=False)
        ],
    }


def _curve(class_set, table, seed):
    sizes = list(dict.fromkeys(table["images_per_class"].astype(str)))
    return chart(
        f"answers-{class_set}",
        "Accuracy on unseen classes by number of enrolled images of each, for each way of answering "
        f"({model_title(class_set)}, seed {seed})",
        "Line chart: accuracy on unseen classes by number of enrolled images of each, with 95 % "
        "intervals, a line for each way of answering. answers_enrolment.csv has the numbers.",
        [
            line(
                answer.replace("_", " "),
                rows["images_per_class"].astype(str).tolist(),
                rows["unseen_accuracy"].tolist(),
                index=index,
                low=rows["low"].tolist(),
                high=rows["high"].tolist(),
            )
            for index, (answer, rows) in enumerate(table.groupby("answer", sort=False))
        ],
        x_title="images of each unseen class in the gallery",
        y_title="accuracy on unseen classes",
        percent_y=True,
        x={"type": "category", "categoryorder": "array", "categoryarray": sizes},
    )
