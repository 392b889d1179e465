"""Judges our metrics by figures that a configuration brings under `published`."""

import pandas as pd

from dmlstudy.evaluate.published import CANNOT_TELL, NOT_COMPARABLE, other_size, overlap

RULE = "holds if our 95 % interval overlaps the published value ± the tolerance"
# Metrics that are test accuracies, so that the published figure stands in the column of these.
ACCURACIES = ("test_accuracy_all_classes", "softmax_accuracy", "precision_at_1")


def judge_figures(literature, reproduction, size):
    """A row per published figure, with ours and the verdict; columns as of `published.judge_metrics`.

    ``literature``: of `plan.reproduction.literature`; ``reproduction``: a `Reproduction` with our
    metrics; ``size``: our numbers of gallery images and queries. Columns published_low and
    published_high are the value minus and plus the tolerance.
    """
    obstacle = literature["obstacle"]
    if not obstacle and literature["size"]:
        obstacle = other_size(size, literature["size"])
    rows = []
    for figure in literature["figures"]:
        ours, metric, value = figure["experiment"], figure["metric"], figure["value"]
        interval = value - figure["tolerance"], value + figure["tolerance"]
        why = obstacle or figure["why"]
        found = None if why else reproduction.metric(ours, metric)
        if not why and found is None:
            why = f"{ours} has no {metric}"
        verdict = NOT_COMPARABLE
        if found and found["low"] != found["low"]:
            verdict, why = CANNOT_TELL, f"our {metric} has no interval"
        elif found:
            verdict = overlap((found["low"], found["high"]), interval)
        row = {
            "experiment": ours,
            "metric": metric,
            "published": value,
            "published_low": interval[0],
            "published_high": interval[1],
            "compared_with": ours if found else "",
            "value": found["value"] if found else None,
            "low": found["low"] if found else None,
            "high": found["high"] if found else None,
            "queries": found["queries"] if found else None,
            "verdict": verdict,
        }
        source = f"source: {figure['source']}"
        row["remark"] = "; ".join(filter(None, [why, figure["differs"], source]))
        rows.append({**row, "rule": RULE})
    return pd.DataFrame(rows)


def beside_experiments(verdicts):
    """What stands beside each of our experiments: {experiment: as of `published.for_experiments`}.

    It is the first figure of each. A figure that is no test accuracy leaves that column empty.
    """
    found = {}
    for row in verdicts.to_dict("records"):
        accuracy = row["metric"] in ACCURACIES
        remark = f"{row['metric']}: {row['remark']}"
        published = row["published"] if accuracy else float("nan")
        found.setdefault(row["experiment"], {**row, "published": published, "remark": remark})
    return found
