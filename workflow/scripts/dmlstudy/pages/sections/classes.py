"""Precision@1 of each class, by the all-classes model and by a limited one."""

from dmlstudy.pages.long_tables import first_rows
from dmlstudy.pages.rendering import model_title
from dmlstudy.pages.sections.trios import trio

# Worst classes that are shown with photographs.
WORST = 8


def values(experiment):
    """``worst``: the worst classes of the all-classes model, a wrong query of each; ``tables``: one per seed
    and limited model, worst class first; ``columns``: of the sprite."""
    images = experiment.images
    shown = []
    for run in experiment.runs:
        for class_set, tables in run["models"].items():
            if class_set == experiment.full:
                continue
            table = tables["comparison"].assign(
                image_id=images.firsts.to_numpy(),
                seen=["seen" if value else "unseen" for value in experiment.seen[class_set]],
                test_samples=tables["metrics"]["test_samples"],
                train_samples=tables["metrics"]["train_samples"],
            )
            table["drop"] = (
                table["all_classes_precision_at_1"] - table["limited_classes_precision_at_1"]
            )
            table = table.sort_values("all_classes_precision_at_1", kind="stable")
            file = f"seed{run['seed']}/{class_set}/comparison_all_classes.csv"
            listed = first_rows(table.to_dict("records"), file)
            for row in listed["rows"]:
                row["place"] = images.thumbnail(row["image_id"])
            shown.append({"seed": run["seed"], "title": model_title(class_set), **listed})
    return {"worst": _worst(experiment), "tables": shown, "columns": images.columns}


def _worst(experiment):
    """The worst classes of the first seed's all-classes model that have a wrong answer.

    Of each, the wrong answer with the smallest distance: {"name", "accuracy", "queries", "trio"}.
    """
    tables = experiment.models[experiment.full]
    accuracy = tables["metrics"]["precision_at_1"].to_numpy()
    queries = tables["queries"]
    wrong = queries[queries["correct"] == 0].sort_values(
        ["similarity", "image_id"], ascending=[False, True]
    )
    found = []
    for class_id in sorted(wrong["class_id"].unique(), key=lambda one: (accuracy[one], one))[
        :WORST
    ]:
        row = wrong[wrong["class_id"] == class_id].head(1).to_dict("records")[0]
        found.append(
            {
                "name": experiment.class_names[class_id],
                "accuracy": accuracy[class_id],
                "queries": int((queries["class_id"] == class_id).sum()),
                "trio": trio(experiment.images, row),
            }
        )
    return found
