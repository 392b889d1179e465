"""Health of the experiment's trainings: warnings, hints, and every figure that was looked at."""

from dmlstudy.evaluate.health import HINT, WARNING
from dmlstudy.pages.rendering import model_title


def values(experiment):
    """``found``: warnings and hints, warnings first; ``rows``: every row of health.csv."""
    rows = [
        {**row, "model": model_title(row["class_set"])}
        for row in experiment.health.to_dict("records")
    ]
    found = [row for kind in (WARNING, HINT) for row in rows if row["finding"] == kind]
    return {"found": found, "rows": rows}
