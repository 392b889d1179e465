"""Copies the small tables of a finished study, and what was run, for the documentation.

Nothing of the photographs or the weights, no path and no name of a machine is copied.
"""

from pathlib import Path

import pandas as pd

from dmlstudy.core.addresses import addresses
from dmlstudy.core.files import StudyError, read_json, write_json
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.pages.results.facts import NUMBERS, OF_UNTRAINED, facts_of_results
from dmlstudy.pages.results.kept import ABOUT, TABLES, TUNING, VERDICT
from dmlstudy.pages.results.study import NEAREST, UNSEEN, UNTRAINED
from dmlstudy.plan.identity import SPLIT

# Rows that are kept of the tables that have more.
METRICS = (
    "precision_at_1",
    "softmax_accuracy",
    "limited_precision_at_1_seen_classes",
    UNSEEN,
    "all_classes_precision_at_1_unseen_classes",
    "precision_drop_unseen_classes",
)
COMPARED = (
    "precision_at_1",
    UNSEEN,
    "precision_drop_unseen_classes",
)


def keep(results, folder, published):
    """Copy the study in the results folder ``results`` to ``folder``.

    ``published``: a `protocol.Published`. Raises StudyError if the study is not finished.
    """
    results, folder = Path(results), Path(folder)
    tables = {name: _table(results / "comparison" / f"{name}.csv") for name in TABLES}
    facts = about(results, tables, published)
    own = tables["metrics"]
    tables["metrics"] = own[own["metric"].isin(METRICS)]
    found = tables["differences"]
    tables["differences"] = found[found["metric"].isin(COMPARED)]
    _check_starts(results, facts, found)
    own = tables["enrolment"]
    tables["enrolment"] = own[own["method"] == NEAREST]
    verdict = {name: _table(results / "comparison" / f"{name}.csv") for name in VERDICT}
    own = verdict[VERDICT[0]]
    shown = (own["chosen"] == 1) | (own["photographs"].astype(str) == ALL)
    tables |= {name: table[shown] for name, table in verdict.items()}
    tuning = results / "comparison" / f"{TUNING}.csv"
    if any(entry["selected"] for entry in facts["experiments"].values()):
        tables[TUNING] = _table(tuning)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.csv"):
        if old.stem not in tables:
            old.unlink()
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    write_json(folder / ABOUT, facts)


def _table(path):
    if not path.is_file():
        raise StudyError(f"{path}: not there; is the study finished?")
    return pd.read_csv(path)


def about(results, tables, published):
    """What was run: plain values for study.json.

    ``dataset``: name, format, source (in words), drawn, published (whether it is the published data
    set), numbers of classes, gallery images, queries, unseen classes and draws of them; ``seeds``;
    ``baseline``; ``selection_seconds``: of all candidates; ``protocol``: rows (key, published, here)
    of what differs; ``published_experiments``: how many were published; ``missing``: those of which
    no experiment is a variant; ``experiments``: {name: {"details", "untrained", "recipe",
    "selected", "weights", "like", "changes"}}, ``like`` being the nearest published experiment and
    ``changes`` rows as of ``protocol``.
    """
    found, descriptions = facts_of_results(results, tables)
    identity = read_json(results / "study.json")
    numbers = {key: found["dataset"][key] for key in NUMBERS}
    dataset = {
        **found["dataset"],
        "format": identity["format"],
        "source": source(identity),
        "published": published.same_data(identity, numbers["classes"]),
    }
    labels = {
        descriptions[name]["recipe"]["initializer"]: of_untrained["label"]
        for name, entry in found["experiments"].items()
        if (of_untrained := OF_UNTRAINED.fullmatch(entry["details"]))
    }
    experiments = {}
    for name, entry in found["experiments"].items():
        recipe = entry["recipe"]
        start = weights(
            results, recipe["initializer"], recipe["backbone"], labels | published.random
        )
        like, changes = (
            (None, [])
            if entry["untrained"]
            else published.changes(_line(name, descriptions), recipe, start)
        )
        experiments[name] = {
            **entry,
            "selected": descriptions[name].get("selected", {}),
            "weights": start,
            "like": like,
            "changes": changes,
        }
    likes = {entry["like"] for entry in experiments.values()}
    here = {**numbers, "seeds": found["seeds"], **{key: identity[key] for key in SPLIT}}
    return {
        **found,
        "dataset": dataset,
        "protocol": published.protocol_changes(dataset, here),
        "published_experiments": len(published.recipes),
        "missing": [name for name in published.recipes if name not in likes],
        "experiments": experiments,
    }


def _line(name, descriptions):
    """An experiment, the one that it is like, the one that that is like, and so on."""
    names = [name]
    while names[-1] in descriptions and descriptions[names[-1]]["like"]:
        names.append(descriptions[names[-1]]["like"])
    return names


def source(identity):
    """Where the images come from, in words, without a path: of a results folder's study.json."""
    if identity["drawn"]:
        return "drawn by a program"
    given = identity["source"] or ""
    if given.startswith(("md5:", "sha256:")):
        return f"archive with {given.replace(':', ' ')}"
    if addresses(given):
        return given
    return f"local files in the format {identity['format']}"


def weights(results, initializer, backbone, labels):
    """Which weights a backbone starts from, in words: label and file, without a path.

    ``labels``: {initializer: its label}, as far as they are known; random weights have no file.
    """
    label = labels.get(initializer, initializer)
    folder = results / "initializers" / initializer
    file = folder / f"{backbone_file_name(backbone)}.weights.json"
    if file.is_file():
        origin = read_json(file)
        names = [origin.get("local"), *origin.get("addresses", []), origin.get("repository")]
        name = next(one for one in names if one).rstrip("/").rsplit("/", 1)[-1]
        return f"{label} (`{name}`)"
    if any(folder.glob(f"*/seed*/{backbone_file_name(backbone)}.weights")):
        return f"{label} (trained by the study)"
    return label if initializer in labels else f"{label} (its file is gone)"


def _check_starts(results, facts, differences):
    """Raise StudyError if tables of an earlier version lack the differences to features before training."""

    def start_of(entry):
        return entry["recipe"]["backbone"], entry["recipe"]["initializer"]

    experiments = facts["experiments"].values()
    untrained = {start_of(entry) for entry in experiments if entry["untrained"]}
    trained = {start_of(entry) for entry in experiments if not entry["untrained"]}
    if untrained & trained and UNTRAINED not in set(differences["role"]):
        raise StudyError(
            f"{results / 'comparison/differences.csv'}: was made by an earlier version, without differences "
            "to the features before training; start the study again"
        )
