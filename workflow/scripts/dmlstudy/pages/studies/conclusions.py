"""Does a conclusion hold in each of several studies, and over all of them?

A conclusion is one number with an interval, of one experiment: such as its precision@1 minus that of
the baseline. Studies answer the same question only if the experiment is the same but for the data.
"""

import math
from dataclasses import dataclass

import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.pooling import pool, standard_error
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED
from dmlstudy.pages.results.words import in_words, value_in_words
from dmlstudy.plan import recipes

ACCURACY, DROP = "precision_at_1", "precision_drop_unseen_classes"
# Keys of a recipe that say how it was computed, not what; and the name of the starting weights, of which
# the words in study.json are compared.
NOT_COMPARED = (
    "device",
    "compute_threads",
    "precision",
    "cuda_graphs",
    "eval_every",
    "seed",
    "initializer",
)
HIGHER, LOWER, UNKNOWN = "above 0", "below 0", "not shown"
STUDIES = (
    "question",
    "experiment",
    "compared_with",
    "study",
    "data",
    "value",
    "low",
    "high",
    "answer",
    "counted",
    "remark",
)
CONCLUSIONS = (
    "question",
    "experiment",
    "compared_with",
    "k",
    "studies",
    "above_0",
    "below_0",
    "mean",
    "low",
    "high",
    "normal_low",
    "normal_high",
    "tau2",
    "tau2_dl",
    "i2",
    "answer",
)


@dataclass(frozen=True)
class Question:
    """What is asked. ``role``: of rows of differences.csv; None for rows of metrics.csv."""

    name: str
    title: str
    role: str | None
    metric: str


QUESTIONS = (
    Question(
        "trained minus untrained",
        "Precision@1 after training minus that of the features before training",
        UNTRAINED,
        ACCURACY,
    ),
    Question(
        "trained minus untrained, unseen classes",
        "The same, for classes that the limited model was not trained on",
        UNTRAINED,
        UNSEEN,
    ),
    Question(
        "difference to the baseline", "Precision@1 minus that of the baseline", "baseline", ACCURACY
    ),
    Question(
        "difference of drops to the baseline",
        "Drop on unseen classes minus that of the baseline",
        "baseline",
        DROP,
    ),
    Question(
        "drop on unseen classes",
        "What the limited model loses on classes that it was not trained on",
        None,
        DROP,
    ),
)


def answer(low, high):
    """What an interval shows."""
    if low > 0:
        return HIGHER
    return LOWER if high < 0 else UNKNOWN


def evidence(study, question):
    """{(experiment, compared with or ""): (value, low, high)} of a `KeptStudy`, trained rows only."""
    found = {}
    for name in study.trained:
        if question.role is None:
            row = study.metric(name, question.metric)
            value = None if row is None else row["value"]
        else:
            row = study.difference(name, question.role, question.metric)
            value = None if row is None else row["difference"]
        if row is None:
            continue
        other = "" if question.role is None else row["compared_with"]
        found[name, other] = value, row["low"], row["high"]
    return found


def differences(name, study, reference):
    """Where an experiment of a study is not that of ``reference``, in words; empty if it is the same.

    It is the same if all keys of its complete recipe are, except `NOT_COMPARED` and those whose values
    both studies selected on their own training images, and if it starts from the same weights.
    """
    ours, theirs = study.entry(name), reference.entry(name)
    selected = ours["selected"].keys() & theirs["selected"].keys()
    found = [
        f"{in_words(key)}: {value_in_words(key, here)} instead of {value_in_words(key, there)}"
        for key, there, here in recipes.differing(theirs["recipe"], ours["recipe"])
        if key.partition(".")[0] not in NOT_COMPARED and key not in selected
    ]
    if ours["weights"] != theirs["weights"]:
        found.append(f"starting weights: {ours['weights']} instead of {theirs['weights']}")
    return found


def check(studies):
    """Raise StudyError for no study, for two of the same name, and for two of the same data set."""
    if not studies:
        raise StudyError("no study to compare; name results folders, or folders of docs/results/")
    for kind, of in (("name", lambda one: one.name), ("data set", _data)):
        seen = {}
        for study in studies:
            if of(study) in seen:
                why = (
                    "give one of them another folder name"
                    if kind == "name"
                    else "their numbers are not independent, so they would count twice; name one"
                )
                raise StudyError(
                    f"{seen[of(study)].name} and {study.name} have the same {kind} "
                    f"({of(study)}): {why}"
                )
            seen[of(study)] = study


def _data(study):
    return study.about["dataset"]["name"]


def shown_data(study):
    """The name of a study's data set, for tables and pages: it says whether images are drawn."""
    return _data(study) + (" (synthetic)" if study.drawn else "")


def compared(studies):
    """Two tables: a row per conclusion and study (`STUDIES`), and a row per conclusion (`CONCLUSIONS`).

    ``studies``: a list of `KeptStudy`, one per data set. Rows of two studies are matched if the
    experiment, and the one that it is compared with, have the same names and are the same but for the
    data, see `differences`; the first study that has the row sets the recipe. A row that does not match,
    or whose interval has no width, is listed with the reason and not counted. Over several studies the
    answer is that of the interval of the mean, over one study none.
    """
    check(studies)
    rows, conclusions = [], []
    for question in QUESTIONS:
        found = {study.name: evidence(study, question) for study in studies}
        for key in dict.fromkeys(one for rows_of in found.values() for one in rows_of):
            having = [study for study in studies if key in found[study.name]]
            # An experiment may have another partner in a study without this row.
            absent = [study for study in studies if key not in found[study.name]]
            one = [
                _row(question, key, study, having[0], found[study.name][key]) for study in having
            ]
            rows += one + [_absent(question, key, study) for study in absent]
            conclusions.append(_conclusion(question, key, [row for row in one if row["counted"]]))
    return pd.DataFrame(rows, columns=STUDIES), pd.DataFrame(conclusions, columns=CONCLUSIONS)


def _key(question, key):
    return {"question": question.name, "experiment": key[0], "compared_with": key[1]}


def _row(question, key, study, reference, numbers):
    value, low, high = numbers
    reasons = [
        f"{name}: {text}" for name in key if name for text in differences(name, study, reference)
    ]
    if not reasons and not high > low:
        reasons = ["its interval has no width"]
    return {
        **_key(question, key),
        "study": study.name,
        "data": shown_data(study),
        "value": value,
        "low": low,
        "high": high,
        "answer": answer(low, high),
        "counted": not reasons,
        "remark": "; ".join(reasons),
    }


def _absent(question, key, study):
    name, other = key
    if name not in study.rows:
        why = f"has no {name}"
    elif other and other not in study.rows:
        why = f"has no {other}"
    else:
        why = "does not make this comparison"
    return {
        **_key(question, key),
        "study": study.name,
        "data": shown_data(study),
        "value": math.nan,
        "low": math.nan,
        "high": math.nan,
        "answer": "",
        "counted": False,
        "remark": why,
    }


def _conclusion(question, key, rows):
    """The row of a conclusion over the counted rows of studies."""
    row = {
        **_key(question, key),
        "k": len(rows),
        "studies": ", ".join(one["study"] for one in rows),
        "above_0": sum(one["answer"] == HIGHER for one in rows),
        "below_0": sum(one["answer"] == LOWER for one in rows),
    }
    if not rows:
        return row
    errors = [standard_error(one["low"], one["high"]) for one in rows]
    pooled = pool([one["value"] for one in rows], errors)
    if pooled.k == 1:
        # The study's own interval, which need not be symmetric.
        return {**row, "mean": pooled.mean, "answer": UNKNOWN}
    return {
        **row,
        **{name: getattr(pooled, name) for name in CONCLUSIONS if hasattr(pooled, name)},
        "answer": answer(pooled.low, pooled.high),
    }
