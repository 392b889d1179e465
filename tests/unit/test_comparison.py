"""Metrics over seeds and draws, differences between experiments, and deductions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import deductions, published
from dmlstudy.evaluate.comparison import (
    BASELINE,
    CLASSIFIER,
    FAMILY,
    LIKE,
    PUBLISHED,
    check_values,
    differences_table,
    experiments_table,
    pairs,
)
from dmlstudy.evaluate.evaluation import (
    check_curve,
    class_metrics,
    compare_class_sets,
    oracle_accuracies,
    summarise,
)
from dmlstudy.evaluate.intervals import percentile_interval
from dmlstudy.evaluate.metrics import harmonic_mean
from dmlstudy.evaluate.study_metrics import COMPARED, METRICS, Answers, contributions, metrics_table

CLASSES = 8
BOOTSTRAP = {"draws": 800, "seed": 3}
QUERY_CLASSES = np.repeat(np.arange(CLASSES), [3, 9, 5, 7, 4, 8, 6, 10])
SEEN = {
    "limited_classes": np.arange(CLASSES) < 6,
    "limited_classes_1": ~np.isin(np.arange(CLASSES), [1, 4]),
}


def queries(rng, accuracy, softmax=False):
    """A table of answers, right with a chance of ``accuracy``."""
    right = rng.random(len(QUERY_CLASSES)) < accuracy
    table = pd.DataFrame({"class_id": QUERY_CLASSES})
    table["nearest_class_id"] = np.where(right, QUERY_CLASSES, (QUERY_CLASSES + 1) % CLASSES)
    table["correct"] = right.astype(int)
    table["first_correct_rank"] = np.where(right, 1, rng.integers(0, 9, len(right)))
    table["r_precision"] = rng.random(len(right))
    table["average_precision_at_r"] = rng.random(len(right))
    table["similarity"] = np.linspace(0, 1, len(right))
    table["vote_5_class_id"] = rng.integers(0, CLASSES, len(right))
    table["nearest_seen_class_id"] = table["nearest_class_id"]
    if softmax:
        table["softmax_class_id"] = np.where(rng.random(len(right)) < accuracy, QUERY_CLASSES, 0)
    return table


def experiment(seed, accuracy, seeds=2, draws=2, softmax=False):
    """(answers, runs) as the evaluation makes them."""
    rng = np.random.default_rng(seed)
    seen = dict(list(SEEN.items())[:draws])
    answers = Answers([], {name: [] for name in seen}, seen)
    runs = []
    names = [f"class {index}" for index in range(CLASSES)]
    for _ in range(seeds):
        full = queries(rng, accuracy, softmax)
        answers.all.append(full)
        everything = np.ones(CLASSES, bool)
        run = {"all": [], "limited": [], "scalars": []}
        run["all"].append(summarise(full, 9, everything, 0.5, recall_at=(1, 4), nmi=0.3))
        for name, mask in seen.items():
            limited = queries(rng, accuracy - 0.2)
            answers.limited[name].append(limited)
            known = mask[QUERY_CLASSES]
            last = limited["correct"][known].mean()
            run["limited"].append(summarise(limited, 9, mask, last, recall_at=(1, 4), nmi=0.2))
            both = [class_metrics(one, QUERY_CLASSES, names) for one in (full, limited)]
            scalars = compare_class_sets(*both, mask)[1] | oracle_accuracies(full, mask)
            scalars["rejection_auroc"] = 0.7
            scalars["rejection_false_positive_rate_at_95_tpr"] = 0.5
            run["scalars"].append(scalars)
        runs.append(run)
    return answers, runs


@pytest.mark.parametrize("draws", [1, 2])
def test_contributions_add_up_to_the_runs_metrics(draws):
    """Would catch an interval that belongs to another metric than the value."""
    answers, runs = experiment(0, 0.6, draws=draws, softmax=True)
    for name, metric in METRICS.items():
        numerators, denominators = contributions(metric, answers)
        by_seed = numerators.sum(axis=1) / denominators.sum()
        expected = [np.mean([one[metric.key] for one in run[metric.source]]) for run in runs]
        if name == "test_accuracy_all_classes":
            continue  # the curve's last point is made up here
        np.testing.assert_allclose(by_seed, expected, atol=1e-12, err_msg=name)


def test_metrics_table():
    """Would catch a metric of one seed instead of the mean, or an interval without its metric."""
    answers, runs = experiment(1, 0.6, softmax=True)
    table = metrics_table(answers, runs, **BOOTSTRAP).set_index("metric")
    for run_key, name in (("precision_at_1", "precision_at_1"), ("recall_at_4", "recall_at_4")):
        values = [run["all"][0][run_key] for run in runs]
        assert table.loc[name, "value"] == pytest.approx(np.mean(values))
        assert table.loc[name, "spread"] == pytest.approx(np.std(values, ddof=1))
    drops = [one["precision_drop_unseen_classes"] for run in runs for one in run["scalars"]]
    assert table.loc["precision_drop_unseen_classes", "value"] == pytest.approx(np.mean(drops))
    with_interval = table.dropna(subset="low")
    assert (with_interval["low"] <= with_interval["value"]).all()
    assert (with_interval["value"] <= with_interval["high"]).all()
    assert table.loc["precision_drop_unseen_classes", "over"] == "classes"
    assert table.loc["precision_at_1", "over"] == "queries"
    assert np.isnan(table.loc["nmi", "low"])
    # Unseen are 16 queries of classes 6 and 7, then 13 of classes 1 and 4.
    assert table.loc["precision_drop_unseen_classes", "queries"] == (16 + 13) / 2
    assert table.loc["precision_drop_unseen_classes", "classes"] == 2
    assert table.loc["softmax_accuracy", "value"] > 0


def test_model_without_softmax_has_no_softmax_metric():
    """Would catch a softmax accuracy for a model without softmax."""
    answers, runs = experiment(1, 0.6)
    assert "softmax_accuracy" not in set(metrics_table(answers, runs, **BOOTSTRAP)["metric"])


PLANTED = sorted(
    {(m.source, m.key) for m in METRICS.values() if m.key != "test_accuracy_known_classes"}
    | {("all", "recall_at_4"), ("limited", "majority_vote_5"), ("limited", "map_at_r")}
)


@pytest.mark.parametrize("planted", [0.02, None])
@pytest.mark.parametrize(("source", "key"), PLANTED)
def test_number_by_two_routes_is_refused_where_they_differ(source, key, planted):
    """Would catch a value from the runs beside an interval of other scores."""
    answers, runs = experiment(7, 0.6, softmax=True)
    place = runs[1][source][-1]
    place[key] = planted and place[key] + planted
    with pytest.raises(StudyError, match=r"seed 2 of 2: the runs state .*, but their queries give"):
        metrics_table(answers, runs, **BOOTSTRAP)


def test_every_value_is_that_of_the_queries():
    """Would catch a value that comes from a training curve, or whose interval is another metric's."""
    answers, runs = experiment(8, 0.6, draws=1)
    table = metrics_table(answers, runs, **BOOTSTRAP).set_index("metric")
    # The runs state 0.5, the last point of a made-up curve.
    right = [list(one["correct"]) for one in answers.all]
    plain = [sum(one) / len(one) for one in right]
    assert table.loc["test_accuracy_all_classes", "value"] == pytest.approx(sum(plain) / 2)
    assert table.loc["test_accuracy_all_classes", "spread"] == pytest.approx(np.std(plain, ddof=1))


def test_harmonic_mean_of_what_is_not_known_is_not_known():
    """Would catch an accuracy over no query that becomes 0 in a table."""
    found = harmonic_mean([0.5, 0.0, 0.0, np.nan], [0.25, 0.5, 0.0, 0.5])
    np.testing.assert_allclose(found, [1 / 3, 0, 0, np.nan])


def test_harmonic_mean_equals_a_plain_computation():
    """Would catch a mean over draws of harmonic means beside the interval of another mean."""
    answers, runs = experiment(9, 0.5)
    table = metrics_table(answers, runs, **BOOTSTRAP).set_index("metric")
    of_seeds = []
    for position in range(2):
        shares = []
        for part in (True, False):
            of_draws = []
            for name, mask in SEEN.items():
                own = answers.limited[name][position]
                chosen = [row.correct for row in own.itertuples() if mask[row.class_id] == part]
                of_draws.append(sum(chosen) / len(chosen))
            shares.append(sum(of_draws) / len(of_draws))
        of_seeds.append(2 * shares[0] * shares[1] / sum(shares))
    row = table.loc["limited_harmonic_mean"]
    assert row["value"] == pytest.approx(np.mean(of_seeds))
    assert row["spread"] == pytest.approx(np.std(of_seeds, ddof=1))
    assert row["low"] < row["value"] < row["high"]


@pytest.mark.parametrize("place", ["summary", "queries", "missing"])
def test_summary_and_queries_of_two_evaluations_are_refused(place):
    """Would catch a row whose accuracy and whose difference come from different evaluations."""
    answers, runs = experiment(10, 0.6)
    table = metrics_table(answers, runs, **BOOTSTRAP).set_index("metric").round(6)
    check_values({"one": answers}, {"one": table})
    if place == "summary":
        table.loc["precision_drop_unseen_classes", "value"] += 0.001
    elif place == "queries":
        wrong = answers.limited["limited_classes_1"][1]
        wrong.loc[0, "correct"] = 1 - wrong.loc[0, "correct"]
    else:
        table = table.drop(index="limited_harmonic_mean")
    with pytest.raises(StudyError, match=r"^one: .* in summary.csv, but .*queries.csv"):
        check_values({"one": answers}, {"one": table})


def test_curve_of_another_training_is_refused():
    """Would catch curves.csv and embeddings.npz of two trainings in one table."""
    answers, _ = experiment(11, 0.6)
    everything, limited = np.ones(CLASSES, bool), SEEN["limited_classes"]
    for table, seen in (
        (answers.all[0], everything),
        (answers.limited["limited_classes"][0], limited),
    ):
        known = [row.correct for row in table.itertuples() if seen[row.class_id]]
        share = sum(known) / len(known)
        check_curve("seed42/x", table, seen, share)
        # One query may differ, where rounding decides between two neighbours.
        check_curve("seed42/x", table, seen, share + 1 / len(known))
        check_curve("seed42/x", table, seen, float("nan"))
        with pytest.raises(StudyError, match="seed42/x: its curve ends at"):
            check_curve("seed42/x", table, seen, share - 2 / len(known))


def described(like=None, **more):
    """What `pairs` and `experiments_table` must know of an experiment."""
    return {
        "block": "published",
        "details": "",
        "like": like,
        "untrained": False,
        "start_row": None,
        "starts_from": ["resnet18", "imagenet"],
        **more,
    }


@pytest.fixture(scope="module")
def study():
    made = {
        "root": experiment(2, 0.5),
        "child": experiment(3, 0.75),
        "classifier": experiment(4, 0.6, softmax=True),
    }
    answers = {name: one[0] for name, one in made.items()}
    descriptions = {
        "root": described("not run"),
        "child": described("root", start_row="root"),
        "classifier": described("root", untrained=True),
    }
    compared = pairs(descriptions, "child", "classifier", [("classifier", "root")] * 2)
    metrics = {
        name: metrics_table(*one, **BOOTSTRAP).set_index("metric") for name, one in made.items()
    }
    return made, descriptions, compared, differences_table(answers, compared, **BOOTSTRAP), metrics


def test_pairs(study):
    """Would catch an experiment compared with itself, twice, or with one that was not run."""
    assert study[2] == [
        ("root", "child", "baseline"),
        ("root", "classifier", "classifier"),
        ("child", "root", "like"),
        ("child", "classifier", "classifier"),
        ("child", "root", "untrained"),
        ("classifier", "root", "like"),
        ("classifier", "child", "baseline"),
        ("classifier", "classifier", "classifier"),
        ("classifier", "root", "published"),
    ]


def test_foundation_models_are_compared_with_their_own_start_only():
    """Would catch a difference of pre-training that a table shows as one of methods."""
    frozen = ["timm/vit", "foundation"]
    descriptions = {
        "resnet": described(),
        "resnet_head": described("resnet"),
        "vit": described(block="foundation", untrained=True, starts_from=frozen, start_row="vit"),
        "vit_head": described(
            "resnet_head", block="foundation", starts_from=frozen, start_row="vit"
        ),
        "vit_other_head": described(
            "vit_head", block="foundation", starts_from=frozen, start_row="vit"
        ),
    }
    assert pairs(descriptions, "resnet", "resnet_head") == [
        ("resnet", "resnet_head", "classifier"),
        ("resnet_head", "resnet", "like"),
        ("resnet_head", "resnet", "baseline"),
        ("resnet_head", "resnet_head", "classifier"),
        ("vit_head", "vit", "untrained"),
        ("vit_other_head", "vit_head", "like"),
        ("vit_other_head", "vit", "untrained"),
    ]
    # A classifier of the same foundation model is one that it may be compared with.
    assert ("vit_head", "vit_other_head", "classifier") in pairs(
        descriptions, "resnet", "vit_other_head"
    )


def test_differences_equal_a_plain_computation(study):
    """Would catch differences of the wrong sign, queries paired wrongly, or seeds mixed."""
    made, _, _, table, _ = study
    row = table.query("experiment == 'child' and role == 'like' and metric == 'precision_at_1'")
    row = row.iloc[0]
    hits = {name: np.array([q["correct"] for q in made[name][0].all]) for name in made}
    expected = hits["child"].mean() - hits["root"].mean()
    assert row["difference"] == pytest.approx(expected)
    rng = np.random.default_rng(0)
    per_query = hits["child"].mean(axis=0) - hits["root"].mean(axis=0)
    plain = [rng.choice(per_query, len(per_query)).mean() for _ in range(2000)]
    assert (row["low"], row["high"]) == pytest.approx(percentile_interval(plain), abs=0.03)
    by_seed = hits["child"].mean(axis=1) - hits["root"].mean(axis=1)
    assert row["seeds_low"] < by_seed.min() <= by_seed.max() < row["seeds_high"]
    # The classifier's own row: neighbours against softmax.
    own = table[(table["role"] == CLASSIFIER) & (table["experiment"] == "classifier")]
    tables = made["classifier"][0].all
    softmax = np.mean([(q["softmax_class_id"] == q["class_id"]).mean() for q in tables])
    assert own["difference"].item() == pytest.approx(hits["classifier"].mean() - softmax)


def test_holm_adjusts_within_a_role_and_metric(study):
    """Would catch an adjustment over another family than docs/tables.md says, or none."""
    table = study[3]
    families = {}
    for row in table.to_dict("records"):
        families.setdefault((row["role"], row["metric"]), []).append(row)
        assert row["metric"] in COMPARED
    assert len({len(rows) for rows in families.values()}) > 1
    for rows in families.values():
        # Holm by its definition: the k-th smallest p-value times the number of those not yet
        # rejected, and never below the one before.
        highest = 0.0
        for position, row in enumerate(sorted(rows, key=lambda row: row["p_value"])):
            highest = max(highest, min(1.0, row["p_value"] * (len(rows) - position)))
            assert row["p_holm"] == pytest.approx(highest)


def test_every_role_has_words_for_its_family():
    """Would catch a sentence that says "over the table", or a role without words."""
    assert FAMILY == ("role", "metric")
    for role in (LIKE, BASELINE, CLASSIFIER, PUBLISHED):
        text = deductions.accuracy_phrase(difference(0.02, 0.001, 0.03, role=role, p_holm=0.2))
        assert f"p = 0.2 after Holm's adjustment over {deductions.FAMILIES[role]})" in text
        assert "over the table" not in text
    page = (Path(__file__).resolve().parents[2] / "docs" / "tables.md").read_text()
    assert "one role and one metric" in " ".join(page.split())


def test_experiments_table(study):
    """Would catch rows in the wrong order, or a difference in another experiment's row."""
    _, descriptions, _, differences, metrics = study
    facts = {"data": "drawn", "classes": 8, "queries": 52, "gallery": 9, "unseen_classes": 2}
    verdicts = {"child": {"published": 0.7, "verdict": "holds"}}
    table = experiments_table(
        metrics, differences, descriptions, [42, 43], "child", facts, verdicts
    ).set_index("experiment")
    assert table.index.tolist() == ["root", "child", "classifier"]
    assert table.loc["child", "published_verdict"] == "holds"
    assert table.loc["child", "like"] == "root"
    assert np.isnan(table.loc["child", "difference_to_baseline"])
    assert table.loc["root", "deduction"].startswith("precision@1 ")
    assert "root" in table.loc["child", "deduction"]
    # An untrained row is compared with the baseline.
    assert "child" in table.loc["classifier", "deduction"]


def test_study_of_one_experiment():
    """Would catch a study that ends with an error because there is nothing to compare with."""
    answers, runs = experiment(6, 0.5)
    descriptions = {"only": described()}
    compared = pairs(descriptions, "not run", None)
    assert compared == []
    differences = differences_table({"only": answers}, compared, **BOOTSTRAP)
    metrics = {"only": metrics_table(answers, runs, **BOOTSTRAP).set_index("metric")}
    facts = {"data": "drawn", "classes": 8, "queries": 52, "gallery": 9, "unseen_classes": 2}
    row = experiments_table(metrics, differences, descriptions, [1, 2], "not run", facts, {}).iloc[
        0
    ]
    assert row["deduction"].startswith("precision@1 ")
    assert row["baseline"] == ""


# Deductions.


def difference(value, low, high, **changes):
    return {
        "difference": value,
        "low": low,
        "high": high,
        "compared_with": "X",
        "role": "like",
        "seeds": 1,
        "seeds_low": np.nan,
        "seeds_high": np.nan,
        "p_holm": 0.01,
        **changes,
    }


METRIC = {
    "precision_drop_unseen_classes": {"value": 0.17, "low": 0.1, "high": 0.2},
    "precision_at_1": {"value": 0.5, "low": 0.48, "high": 0.52},
}
OTHER = {"precision_drop_unseen_classes": {"value": 0.2, "low": 0.1, "high": 0.3}}


def sentence(row, seeds=(42,), drop=None):
    rows = {"precision_at_1": row, "precision_drop_unseen_classes": drop or difference(0, -1, 1)}
    return deductions.deduction(rows, METRIC, OTHER, list(seeds), (2358, 237, 20))


def test_sentence_of_one_seed_speaks_of_two_models():
    """Would catch one seed taken for a statement about methods, or a sentence without n."""
    text = sentence(difference(0.021, 0.008, 0.034), drop=difference(-0.03, -0.05, -0.01))
    assert text == (
        "+2.1 points [0.8, 3.4] over X; drop on unseen classes 17 points against 20 (these two "
        "trained models, seed 42; 2358 queries, 237 of 20 unseen classes)"
    )
    assert "−2.1 points [−3.4, −0.8] against X" in sentence(difference(-0.021, -0.034, -0.008))


@pytest.mark.parametrize(("low", "high"), [(-0.001, 0.034), (0.0, 0.034), (-0.03, 0.0)])
def test_no_difference_is_shown_if_its_interval_contains_0(low, high):
    """Would catch a difference reported because of its sign alone."""
    for seeds in ((42,), (42, 43)):
        text = sentence(difference(0.01, low, high, seeds=len(seeds), seeds_low=0.001, seeds_high=0.02), seeds)  # fmt: skip
        assert text.startswith("no difference shown from X")
        assert "better" not in text
        assert " over X" not in text


def test_methods_need_several_seeds_that_agree():
    """Would catch "better" with one seed, or if seeds differ as much as the methods."""
    several = {"seeds": 3, "seeds_low": 0.005, "seeds_high": 0.03}
    assert sentence(difference(0.021, 0.008, 0.034, **several), (1, 2, 3)).startswith(
        "better than X over 3 seeds: +2.1 points [0.8, 3.4], over seeds [0.5, 3.0]"
    )
    apart = {**several, "seeds_low": -0.005}
    text = sentence(difference(0.021, 0.008, 0.034, **apart), (1, 2, 3))
    assert "better" not in text
    assert "not shown over seeds" in text


def test_a_large_adjusted_p_value_is_mentioned():
    """Would catch one of twenty comparisons reported although chance explains it."""
    assert "p = 0.24 after Holm" in sentence(difference(0.021, 0.001, 0.034, p_holm=0.24))
    assert "Holm" not in sentence(difference(0.021, 0.001, 0.034, p_holm=0.04))


def test_published_deductions_are_judged_by_the_table_of_differences(study):
    """Would catch a deduction without a verdict because its metric is never compared."""
    assert set(published.QUANTITIES.values()) <= set(COMPARED)
    _, _, _, differences, metrics = study
    matches = {name: {"experiment": name, "why": "", "epochs": 100} for name in metrics}
    made = published.Reproduction.of_tables(matches, metrics, differences, {})
    deductions = [
        {"experiment": "child", "quantity": quantity, "relation": relation,
         "compared_with": "root", "value": "0.1", "note": "noted"}
        for quantity in published.QUANTITIES
        for relation in ("higher by", "lower by", "higher", "no effect")
    ]  # fmt: skip
    table = published.judge_deductions(deductions, made, 0.02)
    assert published.NOT_COMPARABLE not in set(table["direction"])
    mine = differences.query("experiment == 'child' and role == 'like'")
    accuracy = mine.set_index("metric").loc["precision_at_1"]
    first = table.iloc[0]
    assert first["value"] == accuracy["difference"]
    # With several seeds the wider interval counts.
    assert first["low"] <= accuracy["low"]
    assert first["high"] >= accuracy["high"]
