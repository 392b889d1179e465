"""Scalars and classification report of each run."""

from dmlstudy.pages.long_tables import first_rows
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``scalars``: [(seed, model, name, value)]; ``reports``: a classification report per run."""
    models = [
        (run["seed"], class_set, tables)
        for run in experiment.runs
        for class_set, tables in run["models"].items()
    ]
    return {
        "scalars": [
            (seed, model_title(class_set), key.replace("_", " "), value)
            for seed, class_set, tables in models
            for key, value in {**tables["summary"], **tables.get("scalars", {})}.items()
        ],
        "reports": [
            {"seed": seed, "title": model_title(class_set)}
            | _report(tables["classification_report"], f"seed{seed}/{class_set}")
            for seed, class_set, tables in models
        ],
    }


def _report(table, folder):
    """Its classes, in order of their ids, and its averages."""
    average = table["row"] == "average"
    classes, averages = (table[rows].to_dict("records") for rows in (~average, average))
    return first_rows(classes, f"{folder}/classification_report.csv", averages)
