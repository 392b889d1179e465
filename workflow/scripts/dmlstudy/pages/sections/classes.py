"""Precision@1 of each class, by the all-classes model and by a limited one."""

from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``tables``: one per seed and limited model, worst class first; ``columns``: of the sprite."""
    images = experiment.images
    first_images = images.manifest.groupby("class_id")["image_id"].min()
    shown = []
    for run in experiment.runs:
        for class_set, tables in run["models"].items():
            if class_set == experiment.full:
                continue
            table = tables["comparison"].assign(
                image_id=first_images.to_numpy(),
                seen=["seen" if value else "unseen" for value in experiment.seen[class_set]],
                test_samples=tables["metrics"]["test_samples"],
                train_samples=tables["metrics"]["train_samples"],
            )
            table["drop"] = (
                table["all_classes_precision_at_1"] - table["limited_classes_precision_at_1"]
            )
            table = table.sort_values("all_classes_precision_at_1", kind="stable")
            shown.append(
                {
                    "seed": run["seed"],
                    "title": model_title(class_set),
                    "rows": table.to_dict("records"),
                }
            )
    return {"tables": shown, "columns": images.columns}
