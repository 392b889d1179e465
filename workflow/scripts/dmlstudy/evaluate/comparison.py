"""The study's tables, from the tables of every experiment. No query is answered here."""

import numpy as np
import pandas as pd

from dmlstudy.evaluate.deductions import deduction
from dmlstudy.evaluate.figures import COMPARED, FIGURES, contributions, resampled
from dmlstudy.evaluate.intervals import holm, p_value, percentile_interval, t_interval

# Columns of experiments.csv: value and spread over seeds; of the INTERVALS low and high as well.
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
    "figure",
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
LIKE, BASELINE, CLASSIFIER, PUBLISHED = "like", "baseline", "classifier", "published"


def pairs(descriptions, baseline, classifier, published=()):
    """[(experiment, compared with, role)]: what a row is like, the baseline, the classical classifier.

    ``descriptions``: {experiment: {"like": name or None}}, in order. ``classifier``: the experiment
    whose softmax answers, or None. ``published``: pairs that published deductions speak of.
    """
    found = []
    for name, description in descriptions.items():
        for role, other in (
            (LIKE, description["like"]),
            (BASELINE, baseline),
            (CLASSIFIER, classifier),
        ):
            if other in descriptions and (other != name or role == CLASSIFIER):
                found.append((name, other, role))
    return found + [(*pair, PUBLISHED) for pair in dict.fromkeys(published)]


def differences_table(answers, compared, *, draws, seed):
    """Differences of figures between experiments, paired by query, a row per pair and figure.

    ``answers``: {experiment: `figures.Answers`}; ``compared``: see `pairs`. The classifier's role
    compares precision@1 with its softmax accuracy. Columns: experiment, compared_with, role, figure,
    difference (mean over seeds and draws of unseen classes), low, high (95 %, resampled as ``over``
    says), p_value, p_holm (Holm over the rows of one role and figure), over, seeds, seeds_low,
    seeds_high, seeds_p_value (t-interval over seeds), queries, classes (that count).
    """
    classes = next(iter(answers.values())).classes
    known = {}

    def found(name, figure):
        if (name, figure) not in known:
            known[name, figure] = contributions(FIGURES[figure], answers[name])
        return known[name, figure]

    rows, columns = [], {}
    for figure in COMPARED:
        for name, other, role in compared:
            if role == CLASSIFIER and figure != "precision_at_1":
                continue
            ours = found(name, figure)
            theirs = found(other, "softmax_accuracy" if role == CLASSIFIER else figure)
            if ours is None or theirs is None:
                continue
            numerators, denominators = ours[0] - theirs[0], ours[1]
            by_seed = numerators.sum(axis=1) / denominators.sum()
            counted = denominators > 0
            seeds_low, seeds_high, seeds_p = t_interval(by_seed)
            columns[len(rows)] = (FIGURES[figure], numerators.mean(axis=0), denominators)
            rows.append(
                {
                    "experiment": name,
                    "compared_with": other,
                    "role": role,
                    "figure": figure,
                    "difference": float(by_seed.mean()),
                    "low": np.nan,
                    "high": np.nan,
                    "p_value": np.nan,
                    "p_holm": np.nan,
                    "over": FIGURES[figure].over,
                    "seeds": len(by_seed),
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
    # A study of one experiment has nothing to compare, but columns all the same.
    table = pd.DataFrame(rows, columns=DIFFERENCES)
    for _, group in table.groupby(["role", "figure"], sort=False):
        table.loc[group.index, "p_holm"] = holm(group["p_value"])
    return table


def experiments_table(figures, differences, descriptions, seeds, baseline, facts, verdicts):
    """The table ``experiments.csv``, a row per experiment in the order of ``descriptions``.

    ``figures``: {experiment: its figures.csv, indexed by figure}; ``differences``: a table of
    `differences_table`; ``descriptions``: {experiment: {"block", "details", "like", "untrained"}};
    ``facts``: columns that every row has (data, classes, queries, gallery, unseen_classes);
    ``verdicts``: {experiment: row of published.csv on its test accuracy}.
    """
    rows = []
    for name, description in descriptions.items():
        own = figures[name]
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
            role: {one["figure"]: one for one in group.to_dict("records")}
            for role, group in mine.groupby("role")
        }
        for role in (LIKE, BASELINE, CLASSIFIER):
            one = by_role.get(role, {}).get("precision_at_1", {})
            other = {LIKE: description["like"], BASELINE: baseline}.get(role)
            row[role] = one.get("compared_with", other if other in descriptions else "")
            for column in ("", "_low", "_high", "_p_holm"):
                key = column.removeprefix("_") or "difference"
                row[f"difference_to_{role}{column}"] = one.get(key, np.nan)
        verdict = verdicts.get(name, {})
        row["published_test_accuracy"] = verdict.get("published", np.nan)
        row["published_verdict"] = verdict.get("verdict", "")
        # An untrained row is like none; what training adds is said against the baseline.
        role = BASELINE if description["untrained"] else LIKE
        found = by_role.get(role, {})
        other = figures[found["precision_at_1"]["compared_with"]] if found else own
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
