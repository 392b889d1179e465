"""What each option of verdict.csv costs, and the break-even: verdict_costs.csv. All seconds are measured ones.

docs/verdict.md has the definitions.
"""

import numpy as np
import pandas as pd

from dmlstudy.core.files import read_json
from dmlstudy.evaluate.answer_hits import SOFTMAX
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.evaluate.verdict import ENROLLED, NOTHING, RETRAINED

KEYS = ["experiment", "trained", "new_classes", "answer", "photographs"]


def start_seconds(runs, start_costs):
    """Seconds of what each run starts from: a table (experiment, class_set, seed, initializer_seconds,
    feature_seconds).

    ``runs``: costs.csv; ``start_costs``: {experiment: {"CLASS_SET SEED": files}}, files of costs of initializers
    that are trained on the study's images, and of stored features; nothing for a run that has none. A file
    that does not say how long it took gives NaN.
    """
    rows = []
    for run in runs[["experiment", "class_set", "seed"]].to_dict("records"):
        paths = start_costs.get(run["experiment"], {}).get(f"{run['class_set']} {run['seed']}", [])
        seconds = {"initializer_seconds": 0.0, "feature_seconds": 0.0}
        for cost in map(read_json, paths):
            # Only features are stored with their number of dimensions.
            features = "dimensions" in cost
            value = cost.get("total_seconds" if features else "train_seconds")
            key = "feature_seconds" if features else "initializer_seconds"
            seconds[key] += np.nan if value is None else float(value)
        rows.append(run | seconds)
    return pd.DataFrame(rows)


def front(costs, values):
    """Which options are on the Pareto front (n,): no other costs at most as much and is at least as good,
    and better in one of both. ``costs``, ``values`` (n,); an option with a NaN is not on it.
    """
    costs, values = (np.asarray(one, dtype=float) for one in (costs, values))
    usable = ~(np.isnan(costs) | np.isnan(values))
    found = np.zeros(len(costs), dtype=bool)
    best, at = -np.inf, np.nan
    for position in np.lexsort((-values, costs)):
        if not usable[position]:
            continue
        if values[position] > best or (values[position] == best and costs[position] == at):
            found[position] = True
            best, at = values[position], costs[position]
    return found


def verdict_costs_table(verdict, runs, answers, models, starts, class_weights, *, gallery):
    """The table ``verdict_costs.csv``: a row per row of ``verdict``, see `verdict.verdict_table`.

    ``runs``: costs.csv; ``answers``: answers_costs.csv; ``models``: model_costs.csv; ``starts``: see
    `start_seconds`; ``class_weights``: {experiment: how many its loss learns}; ``gallery``: number of gallery images. Columns: `KEYS`; ``device``: of the trainings;
    ``parameters``, ``trained_parameters``, ``gflop``, ``milliseconds_a_photograph`` (on
    ``photograph_device``) and ``milliseconds_a_query``; ``photographs_of_a_class``;
    ``seconds_to_train_first``; ``seconds_to_add_a_class``, only of what is enrolled; ``classes_added`` and
    ``seconds_to_add_them``; ``seconds_in_all``: this and the training before; ``times_the_cost`` of the
    option that it is compared with, and ``break_even_classes``: how many classes that one adds in this time;
    both only of what is trained again; ``on_front``: 1 on the Pareto front of harmonic mean and seconds_in_all, among options
    with all photographs.
    """
    trained = _of_experiments(runs, starts)
    of_answers = answers.groupby(["experiment", "answer"]).mean(numeric_only=True)
    of_models = models.set_index("experiment")
    rows = []
    for option in verdict.to_dict("records"):
        model, own = of_models.loc[option["experiment"]], trained[option["experiment"]]
        way = _way(of_answers, option)
        row = {key: option[key] for key in KEYS}
        row |= {
            "device": own["device"],
            "parameters": int(model["parameters"]),
            "trained_parameters": int(model["trained_parameters"])
            + class_weights[option["experiment"]],
            "gflop": model["gflop"],
            "milliseconds_a_photograph": model["milliseconds_a_photograph"],
            "photograph_device": model["device"],
            "milliseconds_a_query": way["milliseconds_a_query"],
        }
        rows.append(row | _seconds(option, row, own, way, gallery))
    _add_break_even(rows, verdict)
    table = pd.DataFrame(rows)
    whole = (table["photographs"].astype(str) == ALL).to_numpy()
    table["on_front"] = 0
    on_front = front(table["seconds_in_all"][whole], verdict["harmonic_mean"].to_numpy()[whole])
    table.loc[whole, "on_front"] = on_front.astype(int)
    return table


def _of_experiments(runs, starts):
    """{experiment: means over seeds}: device, and seconds of a limited model and of an all-classes one."""
    table = runs.merge(starts, on=["experiment", "class_set", "seed"])
    table["trained"] = table["train_seconds"] + table["initializer_seconds"]
    found = {}
    for name, rows in table.groupby("experiment", sort=False):
        limited = rows[rows["class_set"] != "all_classes"]
        full = rows[rows["class_set"] == "all_classes"]
        found[name] = {
            "device": ", ".join(dict.fromkeys(rows["device"].astype(str))),
            # A missing number must not become the mean of the others.
            "first": (limited["trained"] + limited["feature_seconds"]).mean(skipna=False),
            "again": full["trained"].mean(skipna=False),
        }
    return found


def _way(of_answers, option):
    """Seconds of a way of answering; a classifier's own softmax searches nothing."""
    if option["answer"] == SOFTMAX:
        other = of_answers.loc[option["experiment"]].iloc[0]
        return {
            "seconds_to_fit": 0.0,
            "seconds_to_add_a_class": np.nan,
            "images_of_that_class": other["images_of_that_class"],
            "milliseconds_a_query": 0.0,
        }
    return of_answers.loc[option["experiment"], option["answer"]]


def _seconds(option, row, own, way, gallery):
    count, photographs = option["unseen_classes"], str(option["photographs"])
    of_a_class = way["images_of_that_class"] if photographs == ALL else float(photographs)
    embedding = row["milliseconds_a_photograph"] / 1000
    first = 0.0 if option["trained"] == NOTHING else own["first"]
    added = np.nan
    if option["new_classes"] == ENROLLED:
        added = of_a_class * embedding + way["seconds_to_add_a_class"]
        together = count * added
    else:
        # The features of a frozen backbone are stored; a backbone that trains embeds everything again.
        embedded = gallery if option["new_classes"] == RETRAINED else count * of_a_class
        if option["new_classes"] == RETRAINED and option["answer"] == SOFTMAX:
            embedded = 0
        together = own["again"] + embedded * embedding + way["seconds_to_fit"]
    return {
        "photographs_of_a_class": of_a_class,
        "seconds_to_train_first": first,
        "seconds_to_add_a_class": added,
        "classes_added": count,
        "seconds_to_add_them": together,
        "seconds_in_all": first + together,
    }


def _add_break_even(rows, verdict):
    """Add what training again costs, in units of the option that only enrols: ratios of measured seconds.

    Empty if training and embedding were measured on different devices.
    """
    places = {tuple(str(row[key]) for key in KEYS): row for row in rows}
    by_name = {}
    for row in rows:
        if row["new_classes"] == ENROLLED and str(row["photographs"]) == ALL:
            by_name[row["experiment"], row["answer"]] = row
    for option in verdict.to_dict("records"):
        row = places[tuple(str(option[key]) for key in KEYS)]
        row["times_the_cost"] = row["break_even_classes"] = np.nan
        other = by_name.get((option["compared_with"], option["compared_answer"]))
        if option["new_classes"] == ENROLLED or other is None or not same_device(row, other):
            continue
        row["times_the_cost"] = row["seconds_to_add_them"] / other["seconds_to_add_them"]
        row["break_even_classes"] = row["seconds_to_add_them"] / other["seconds_to_add_a_class"]


def same_device(row, other):
    """Whether the training of one option and the embedding of both were measured on one device."""
    return len({row["device"], row["photograph_device"], other["photograph_device"]}) == 1
