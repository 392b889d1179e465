"""Builds the study's tables from the tables of each experiment. It reads tables only."""

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.deductions import deduction
from dmlstudy.evaluate.intervals import holm, p_value, percentile_interval, t_interval
from dmlstudy.evaluate.study_metrics import (
    COMPARED,
    HARMONIC_MEANS,
    METRICS,
    by_seed,
    contributions,
    resampled,
    values_of,
)

# Metrics in experiments.csv. Each has a column for its value and one for its spread over seeds.
# Those in INTERVALS also have columns low and high.
COLUMNS = (
    "precision_at_1",
    "macro_precision_at_1",
    "test_accuracy_all_classes",
    "softmax_accuracy",
    "test_accuracy_limited_classes",
    "limited_precision_at_1",
    "limited_precision_at_1_seen_classes",
    "limited_precision_at_1_unseen_classes",
    "limited_harmonic_mean",
    "precision_drop_unseen_classes",
    "precision_drop_seen_classes",
    "precision_drop_all_classes",
    "limited_rejection_auroc",
)
INTERVALS = (
    "precision_at_1",
    "limited_precision_at_1_unseen_classes",
    "limited_harmonic_mean",
    "precision_drop_unseen_classes",
)
DIFFERENCES = (
    "experiment",
    "compared_with",
    "role",
    "metric",
    "difference",
    "low",
    "high",
    "p_value",
    "p_holm",
    "over",
    "seeds",
    "seeds_low",
    "seeds_high",
    "seeds_p_value",
    "queries",
    "classes",
)
# Columns of pretraining.csv: what is known of the weights that an experiment starts from.
PRETRAINING = (
    "experiment",
    "backbone",
    "initializer",
    "feature_dim",
    "image_size",
    "label",
    "license",
    "data",
    "test_images",
    "remark",
    "source",
)
# The family of Holm's adjustment: the rows of differences.csv with the same values here. In the main
# table that is one column: one question, asked of every experiment. docs/tables.md has the reason.
FAMILY = ("role", "metric")
# Tables have six decimals.
ROUNDING = 1e-6
ROLES = LIKE, BASELINE, CLASSIFIER, UNTRAINED = "like", "baseline", "classifier", "untrained"
PUBLISHED = "published"
# The block of experiments that are only compared with what starts from the same weights.
FOUNDATION = "foundation"


def pairs(descriptions, baseline, classifier, published=()):
    """Which experiments are compared: [(experiment, compared with, role)].

    Each experiment is compared with the one that it is "like", with the baseline, with the classical
    classifier, and with the features that it started from. ``descriptions``: {experiment: {"like",
    "start_row": name or None, "block", "starts_from": [backbone, initializer]}}, in order.
    ``classifier``: the experiment that has softmax answers, or None. ``published``: further pairs,
    which the published deductions need.
    """
    found = []
    for name, description in descriptions.items():
        for role, other in (
            (LIKE, description["like"]),
            (BASELINE, baseline),
            (CLASSIFIER, classifier),
            (UNTRAINED, description["start_row"]),
        ):
            if (
                other in descriptions
                and (other != name or role == CLASSIFIER)
                and comparable(description, descriptions[other])
            ):
                found.append((name, other, role))
    return found + [(*pair, PUBLISHED) for pair in dict.fromkeys(published)]


def comparable(one, other):
    """Whether a difference between two experiments says something about how they were trained.

    Foundation models have seen other images, so they are only compared with what starts from the
    same weights. ``one``, ``other``: descriptions, see `pairs`.
    """
    return FOUNDATION not in (one["block"], other["block"]) or (
        one["starts_from"] == other["starts_from"]
    )


def check_values(answers, metrics):
    """Raise StudyError if an experiment's summary.csv and its queries.csv give different values.

    The main table takes values from the one, and differences and their intervals from the other.
    ``answers``: {experiment: `study_metrics.Answers`}; ``metrics``: {experiment: its summary.csv,
    indexed by metric}.
    """
    for name, table in metrics.items():
        found = {metric: float(one.mean()) for metric, one in values_of(answers[name]).items()}
        for metric in (*METRICS, *HARMONIC_MEANS):
            stated = table["value"].get(metric)
            if stated is None and metric not in found:
                continue
            given = found.get(metric)
            if None in (stated, given) or not abs(stated - given) <= ROUNDING:
                raise StudyError(
                    f"{name}: {metric} is {_or_missing(stated)} in summary.csv, but "
                    f"{_or_missing(given)} by the queries.csv of its runs. Evaluate it again with: "
                    f"snakemake … --forcerun evaluate"
                )


def _or_missing(value):
    return "missing" if value is None else f"{value:.6f}"


def differences_table(answers, compared, *, draws, seed):
    """Differences of metrics between experiments, paired by query: a row per pair and metric.

    ``answers``: {experiment: `study_metrics.Answers`}; ``compared``: see `pairs`; ``draws``: number
    of resamples. The role "classifier" compares precision@1 with the softmax accuracy of the
    classifier. Columns: experiment, compared_with, role, metric; difference (mean over seeds and
    draws of unseen classes); low, high (95 % bootstrap interval) and p_value; p_holm (Holm-adjusted
    over the rows of one role and metric, see `FAMILY`); over (what is resampled, "queries" or
    "classes"); seeds,
    seeds_low, seeds_high, seeds_p_value (t-interval over seeds); queries, classes (how many enter
    the metric).
    """
    classes = next(iter(answers.values())).classes
    known = {}

    def found(name, metric):
        if (name, metric) not in known:
            known[name, metric] = contributions(METRICS[metric], answers[name])
        return known[name, metric]

    rows, columns = [], {}
    for metric in COMPARED:
        for name, other, role in compared:
            if role == CLASSIFIER and metric != "precision_at_1":
                continue
            ours = found(name, metric)
            theirs = found(other, "softmax_accuracy" if role == CLASSIFIER else metric)
            if ours is None or theirs is None:
                continue
            numerators, denominators = ours[0] - theirs[0], ours[1]
            of_seeds = by_seed((numerators, denominators))
            counted = denominators > 0
            seeds_low, seeds_high, seeds_p = t_interval(of_seeds)
            columns[len(rows)] = (METRICS[metric], numerators.mean(axis=0), denominators)
            rows.append(
                {
                    "experiment": name,
                    "compared_with": other,
                    "role": role,
                    "metric": metric,
                    "difference": float(of_seeds.mean()),
                    "low": np.nan,
                    "high": np.nan,
                    "p_value": np.nan,
                    "p_holm": np.nan,
                    "over": METRICS[metric].over,
                    "seeds": len(of_seeds),
                    "seeds_low": seeds_low,
                    "seeds_high": seeds_high,
                    "seeds_p_value": seeds_p,
                    "queries": int(counted.sum()),
                    "classes": len(np.unique(classes[counted])),
                }
            )
    for position, samples in resampled(columns, classes, draws=draws, seed=seed).items():
        rows[position]["low"], rows[position]["high"] = percentile_interval(samples)
        rows[position]["p_value"] = p_value(samples)
    # The columns are given, because a study of one experiment has no rows.
    table = pd.DataFrame(rows, columns=DIFFERENCES)
    for _, group in table.groupby(list(FAMILY), sort=False):
        table.loc[group.index, "p_holm"] = holm(group["p_value"])
    return table


def experiments_table(metrics, differences, descriptions, seeds, baseline, facts, verdicts):
    """The table ``experiments.csv``: a row per experiment, in the order of ``descriptions``.

    ``metrics``: {experiment: its summary.csv, indexed by metric}; ``differences``: see
    `differences_table`; ``descriptions``: {experiment: {"details", "untrained", and what
    `pairs` needs}}; ``facts``: columns with the same value in each row (data, classes, queries, gallery,
    unseen_classes); ``verdicts``: {experiment: the published test accuracy beside it}, see
    `published.for_experiments`.
    """
    rows = []
    for name, description in descriptions.items():
        own = metrics[name]
        row = {"experiment": name, "block": description["block"]}
        row |= {"details": description["details"], **facts}
        row["seeds"] = len(seeds)
        row["unseen_draws"] = int(own["unseen_draws"].iloc[0])
        for column in COLUMNS:
            found = own.loc[column] if column in own.index else {}
            row[column] = found.get("value", np.nan)
            if column in INTERVALS:
                row[f"{column}_low"] = found.get("low", np.nan)
                row[f"{column}_high"] = found.get("high", np.nan)
            row[f"{column}_spread"] = found.get("spread", np.nan)
        mine = differences[differences["experiment"] == name]
        by_role = {
            role: {one["metric"]: one for one in group.to_dict("records")}
            for role, group in mine.groupby("role")
        }
        for role in (LIKE, BASELINE, CLASSIFIER):
            one = by_role.get(role, {}).get("precision_at_1", {})
            other = {LIKE: description["like"], BASELINE: baseline}.get(role)
            named = other in descriptions and comparable(description, descriptions[other])
            row[role] = one.get("compared_with", other if named else "")
            for column in ("", "_low", "_high", "_p_holm"):
                key = column.removeprefix("_") or "difference"
                row[f"difference_to_{role}{column}"] = one.get(key, np.nan)
        verdict = verdicts.get(name, {})
        row["published_experiment"] = verdict.get("experiment", "")
        row["published_test_accuracy"] = verdict.get("published", np.nan)
        row["published_verdict"] = verdict.get("verdict", "")
        row["published_remark"] = verdict.get("remark", "")
        # An untrained row is like no other; its deduction compares it with the baseline.
        role = BASELINE if description["untrained"] else LIKE
        if description["block"] == FOUNDATION:
            role = UNTRAINED
        found = by_role.get(role, {})
        other = metrics[found["precision_at_1"]["compared_with"]] if found else own
        counts = (
            facts["queries"],
            own["queries"].get("precision_drop_unseen_classes", np.nan),
            facts["unseen_classes"],
        )
        row["deduction"] = deduction(
            found, own.to_dict("index"), other.to_dict("index"), seeds, counts
        )
        rows.append(row)
    return pd.DataFrame(rows)
