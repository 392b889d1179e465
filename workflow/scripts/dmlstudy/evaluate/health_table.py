"""The table of the health of trainings, and what is said of it in logs."""

import logging

import pandas as pd

from dmlstudy.core.files import read_json
from dmlstudy.evaluate.health import CANNOT_TELL, HINT, WARNING, FinishedRun, findings

COLUMNS = (
    "experiment",
    "seed",
    "class_set",
    "sign",
    "title",
    "finding",
    "value",
    "low",
    "high",
    "threshold",
    "sentence",
    "try_this",
)
WORSE_THAN_START = "worse_than_start"


def health_table(runs, experiment, recipe, start, *, draws, seed):
    """The findings of all runs of an experiment: a row per run and sign, with `COLUMNS`.

    ``runs``: a `stored_runs.StoredRuns`; ``recipe``: the experiment's; ``start``: name of the untrained row
    with the same backbone and initializer, or None; ``draws``, ``seed``: of the bootstrap.
    """
    rows = []
    for run_seed in runs.seeds:
        for class_set, seen in runs.class_sets.items():
            folder = runs.folder(experiment, run_seed, class_set)
            tables = {name: pd.read_csv(folder / f"{name}.csv") for name in ("metrics", "queries")}
            before = start and runs.folder(start, run_seed, class_set) / "queries.csv"
            run = FinishedRun(
                recipe=recipe,
                summary=read_json(folder / "summary.json"),
                curve=pd.read_csv(folder / "curves.csv"),
                **tables,
                seen=seen,
                start=start,
                start_queries=pd.read_csv(before) if start else None,
                draws=draws,
                bootstrap_seed=seed,
            )
            keys = {"experiment": experiment, "seed": run_seed, "class_set": class_set}
            rows += [{**keys, **found} for found in findings(run)]
    return pd.DataFrame(rows, columns=COLUMNS)


def counted(table):
    """How many findings of each kind a table has, and of which signs, such as ``2 warnings (diverged)``."""
    parts = []
    for kind, one, many in ((WARNING, "warning", "warnings"), (HINT, "hint", "hints")):
        rows = table[table["finding"] == kind]
        if len(rows):
            titles = ", ".join(rows["title"].unique())
            parts.append(f"{len(rows)} {one if len(rows) == 1 else many} ({titles})")
    return ", ".join(parts)


def log_findings(table):
    """Write a table of findings to the log. If there is a warning, one line goes to the terminal too."""
    for row in table.to_dict("records"):
        if row["finding"] in (WARNING, HINT, CANNOT_TELL):
            what = f"; try: {row['try_this']}" if row["try_this"] else ""
            logging.info(
                "%s, seed %s, %s: %s: %s: %s%s",
                row["experiment"], row["seed"], row["class_set"], row["finding"], row["title"],
                row["sentence"], what,
            )  # fmt: skip
    for experiment, rows in table.groupby("experiment", sort=False):
        if (rows["finding"] == WARNING).any():
            logging.warning("health of %s: %s", experiment, counted(rows))
        else:
            logging.info("health of %s: no warning", experiment)


def baseline_notice(table, baseline):
    """The sentences of a baseline that is worse than its features before training; empty otherwise.

    ``table``: health.csv of the study.
    """
    worse = table[
        (table["experiment"] == baseline)
        & (table["sign"] == WORSE_THAN_START)
        & (table["finding"] == WARNING)
    ]
    return [
        f"{row['class_set'].replace('_', ' ')}, seed {row['seed']}: {row['sentence']}"
        for row in worse.to_dict("records")
    ]
