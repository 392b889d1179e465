"""What was run, as plain values: what sentences say of a study beside the numbers in its tables."""

import re
from pathlib import Path

from dmlstudy.core.files import StudyError, read_json
from dmlstudy.plan.sources import read_yaml

# What a row of a study's main table says of a row without training, see `wording.details`.
OF_UNTRAINED = re.compile(r"untrained: (?P<backbone>[^,]+), (?P<label>.+)")
NUMBERS = ("classes", "gallery", "queries", "unseen_classes", "unseen_draws")


def facts(identity, numbers, descriptions, *, seeds, baseline, selection_seconds=0):
    """What a `study.Study` is about.

    ``identity``: {"dataset", "drawn"} of the results folder's study.json; ``numbers``: values of
    `NUMBERS`; ``descriptions``: {experiment: its config.yaml}; ``seeds``, ``baseline`` (name or None):
    of the study; ``selection_seconds``: of all candidates.
    """
    return {
        "dataset": {
            "name": identity["dataset"],
            "drawn": bool(identity["drawn"]),
            **{key: int(numbers[key]) for key in NUMBERS},
        },
        "seeds": sorted(int(seed) for seed in seeds),
        "baseline": baseline,
        "selection_seconds": selection_seconds,
        "experiments": {
            name: {
                "details": one["details"],
                "untrained": bool(OF_UNTRAINED.fullmatch(one["details"])),
                "recipe": one["recipe"],
            }
            for name, one in descriptions.items()
        },
    }


def facts_of_results(results, tables):
    """(`facts` of a finished study, {experiment: its config.yaml}).

    ``results``: its results folder; ``tables``: experiments and costs of its comparison. StudyError
    names a file that is missing.
    """
    results = Path(results)
    rows = tables["experiments"]
    descriptions = {name: description(results, name) for name in rows["experiment"]}
    baseline = rows["baseline"].dropna()
    # Results of experiments that are no longer in the study may lie beside them.
    folders = [results / "experiments" / name / "selection" for name in descriptions]
    costs = [path for folder in folders for path in sorted(folder.glob("*_cost.json"))]
    found = facts(
        read_json(results / "study.json"),
        rows.iloc[0],
        descriptions,
        seeds=tables["costs"]["seed"].unique(),
        baseline=baseline.iat[0] if len(baseline) else None,
        selection_seconds=sum(read_json(path)["total_seconds"] for path in costs),
    )
    return found, descriptions


def description(results, name):
    """The config.yaml of an experiment in a results folder; StudyError if it is not there."""
    path = Path(results) / "experiments" / name / "config.yaml"
    if not path.is_file():
        raise StudyError(f"{path}: not there; is the study finished?")
    return read_yaml(path)
