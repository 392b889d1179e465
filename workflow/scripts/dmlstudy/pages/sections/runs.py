"""Scalars and classification report of each run."""

from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``scalars``: [(seed, model, name, value)]; ``reports``: a classification report per run."""
    models = [
        (run["seed"], model_title(class_set), tables)
        for run in experiment.runs
        for class_set, tables in run["models"].items()
    ]
    return {
        "scalars": [
            (seed, title, key.replace("_", " "), value)
            for seed, title, tables in models
            for key, value in {**tables["summary"], **tables.get("scalars", {})}.items()
        ],
        "reports": [
            {
                "seed": seed,
                "title": title,
                "rows": tables["classification_report"].to_dict("records"),
            }
            for seed, title, tables in models
        ],
    }
