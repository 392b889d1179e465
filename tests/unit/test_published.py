"""Published against reproduced: which recipes are compared, and the verdicts."""

import copy
import csv
from pathlib import Path

import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.published import (
    CANNOT_TELL,
    DOES_NOT_HOLD,
    HOLDS,
    NOT_COMPARABLE,
    Reproduction,
    above,
    below,
    difference_interval,
    equivalence,
    for_experiments,
    judge_deductions,
    judge_metrics,
    overlap,
    size,
)
from dmlstudy.plan import configuration
from dmlstudy.plan import reproduction as reproduction_module
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import read_yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
ARCFACE, SUBCENTER = (f"{name}_cosine_resnet18_sgd_aug" for name in ("ArcFace", "SubCenterArcFace"))
CLASSIFIER = "EPSHN_cosine_resnet18_classifier_sgd_aug"
RECIPES = read_yaml(CONFIG / "published_recipes.yaml")


def rows(name):
    with open(CONFIG / name, newline="") as stream:
        return list(csv.DictReader(stream))


def planned(change=lambda config: None):
    """The comparable experiments of the published configuration, after a change."""
    config = {}
    for name in ("config.yaml", "experiments.yaml"):
        config |= copy.deepcopy(read_yaml(CONFIG / name))
    change(config)
    configuration.validate(config, [])
    return reproduction_module.reproduction(plan(config), RECIPES)


def test_each_metric_is_compared_with_the_recipe_that_was_run():
    """Would catch the swapped ArcFaces compared by name, or a recipe that is not the published one."""
    found = planned()
    assert found["obstacle"] == ""
    for name, match in found["matches"].items():
        expected = {ARCFACE: SUBCENTER, SUBCENTER: ARCFACE, CLASSIFIER: None}.get(name, name)
        assert match["experiment"] == expected, name
        assert match["epochs"] == 100
    assert set(found["matches"]) == {row["experiment"] for row in rows("published.csv")}
    why = found["matches"][CLASSIFIER]["why"]
    assert why == "another recipe was run: loss.distance euclidean (here cosine)"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["dataset"].update(md5=None), "the data set is cub200_2011"),
        # It inherits the archive's checksum.
        (lambda c: c["dataset"].update(name="mine", format="folders", source="tests"),
            "the data set is mine, not the published archive"),
        (lambda c: c["dataset"].update(source=None, drawn={
            "classes": 200, "images_per_class": 59, "image_size": 64, "seed": 1}), "the data set is"),
        (lambda c: c["protocol"].update(split_seed=1), "protocol.split_seed is 1, it was 42"),
        (lambda c: c["protocol"].update(split="official"), "protocol.split is official"),
        (lambda c: c["protocol"].update(unseen_classes=30), "protocol.unseen_classes is 30"),
        (lambda c: c["protocol"].update(image_size=128), "protocol.image_size is 128"),
    ],
)  # fmt: skip
def test_other_data_and_splits_are_not_comparable(change, words):
    """Would catch verdicts on other images, drawn birds or another split."""
    assert words in planned(change)["obstacle"]


def test_other_recipes_are_not_comparable():
    """Would catch a verdict on a shortened run or a tuned learning rate."""

    def shorten(config):
        config["protocol"]["epochs"] = 10

    assert all(match["experiment"] is None for match in planned(shorten)["matches"].values())
    assert "epochs 100 (here 10)" in planned(shorten)["matches"][BASELINE]["why"]

    def tune(config):
        config["experiments"][ARCFACE]["optimizer"] = {"lr": 0.01}

    matches = planned(tune)["matches"]
    assert matches[SUBCENTER]["experiment"] is None
    assert matches[BASELINE]["experiment"] == BASELINE

    def leave_out(config):
        config["only"] = [BASELINE]

    assert planned(leave_out)["matches"]["EPSHN_cosine_resnet50_sgd_aug"]["why"] == (
        "the experiment was not run here"
    )


def test_rules():
    """Would catch a rule with its sides swapped."""
    assert overlap((0.1, 0.3), (0.3, 0.4)) == HOLDS
    assert overlap((0.1, 0.29), (0.3, 0.4)) == DOES_NOT_HOLD
    assert [above(one) for one in ((0.01, 0.1), (-0.1, -0.01), (-0.1, 0.1))] == [
        HOLDS, DOES_NOT_HOLD, CANNOT_TELL,
    ]  # fmt: skip
    assert [below(one, 0.2) for one in ((0.1, 0.19), (0.21, 0.3), (0.1, 0.3))] == [
        HOLDS, DOES_NOT_HOLD, CANNOT_TELL,
    ]  # fmt: skip
    assert [size((0.1, 0.2), value) for value in (0.1, 0.15, 0.21)] == [HOLDS, HOLDS, DOES_NOT_HOLD]
    intervals = [(-0.02, 0.02), (-0.01, 0.03), (0.021, 0.03), (-0.04, -0.021), (-0.03, 0.03)]
    assert [equivalence(one, 0.02) for one in intervals] == [
        HOLDS, CANNOT_TELL, DOES_NOT_HOLD, DOES_NOT_HOLD, CANNOT_TELL,
    ]  # fmt: skip
    low, high = difference_interval(0.2, (0.6, 0.4), 237)
    assert (high - low) / 2 == pytest.approx(1.96 * (0.48 / 237) ** 0.5)
    assert (low + high) / 2 == pytest.approx(0.2)


def metric(value, half=0.02, queries=2358):
    return {"value": value, "low": value - half, "high": value + half, "queries": queries}


def reproduction(metrics=(), differences=(), curves=None, obstacle=""):
    matches = planned()["matches"]
    differences = {key: {"difference": d, "low": low, "high": high}
                   for key, (d, low, high) in dict(differences).items()}  # fmt: skip
    return Reproduction(matches, dict(metrics), differences, curves or {}, obstacle)


def verdict(table, experiment, metric):
    return table.query("experiment == @experiment and metric == @metric").iloc[0]


def test_metrics_are_judged():
    """Would catch a metric judged by its value alone, or a published one taken as exact."""
    accuracy = "test_accuracy_all_classes"
    table = judge_metrics(
        rows("published.csv"),
        reproduction(
            {
                ("EPSHN_cosine_resnet18_sgd", accuracy): metric(0.68),
                ("EPSHN_cosine_resnet18", accuracy): metric(0.54),
                (SUBCENTER, accuracy): metric(0.78),
                ("EPSHN_cosine_resnet18_sgd", "precision_drop_unseen_classes"): metric(
                    0.1, 0.03, 237
                ),
                ("crossentropy_resnet18_sgd_aug", accuracy): metric(0.6),
                ("crossentropy_resnet18_sgd_aug", "softmax_accuracy"): metric(0.7),
            }
        ),
    )
    # 0.645 of 2,358 is [0.625, 0.664]: 0.68 − 0.02 overlaps it, 0.54 − 0.02 does not reach 0.49's.
    row = verdict(table, "EPSHN_cosine_resnet18_sgd", accuracy)
    assert row["verdict"] == HOLDS
    assert (row["published_low"], row["published_high"]) == pytest.approx(
        (0.6255, 0.6641), abs=1e-3
    )
    assert verdict(table, "EPSHN_cosine_resnet18", accuracy)["verdict"] == DOES_NOT_HOLD
    row = verdict(table, ARCFACE, accuracy)
    assert row["verdict"] == HOLDS
    assert f"compared with {SUBCENTER}, which has the recipe that was run" in row["remark"]
    # A drop of 0.176 of 237 queries is known to about 8.7 points.
    row = verdict(table, "EPSHN_cosine_resnet18_sgd", "drop_unseen_last_20")
    assert row["verdict"] == HOLDS
    assert "second neighbour" in row["remark"]
    row = verdict(table, "EPSHN_cosine_resnet18_sgd", "drop_unseen_as_published")
    assert row["verdict"] == CANNOT_TELL
    assert "21 classes" in row["remark"]
    row = verdict(table, "crossentropy_resnet18_sgd_aug", accuracy)
    assert row["value"] == 0.7
    assert row["verdict"] == CANNOT_TELL
    assert "train mode" in row["remark"]
    row = verdict(table, CLASSIFIER, accuracy)
    assert row["verdict"] == NOT_COMPARABLE
    assert "euclidean" in row["remark"]
    assert table["rule"].str.contains("overlaps").all()


def beside(table, *experiments):
    return for_experiments(table, experiments)


def test_a_verdict_stands_beside_the_experiment_that_was_compared():
    """Would catch a verdict on another model's run: the published ArcFaces have swapped names."""
    accuracy = "test_accuracy_all_classes"
    # As published under the other's name: 0.782 ran ArcFace, 0.776 the sub-centres.
    ours = {(ARCFACE, accuracy): metric(0.5), (SUBCENTER, accuracy): metric(0.776)}
    table = judge_metrics(rows("published.csv"), reproduction(ours))
    found = beside(table, ARCFACE, SUBCENTER)
    assert (found[ARCFACE]["published"], found[ARCFACE]["verdict"]) == (0.782, DOES_NOT_HOLD)
    assert (found[SUBCENTER]["published"], found[SUBCENTER]["verdict"]) == (0.776, HOLDS)
    assert found[ARCFACE]["experiment"] == SUBCENTER
    assert "which has the recipe that was run" in found[ARCFACE]["remark"]
    for name, row in found.items():
        # The slow way: look for the row that was computed from this experiment's own numbers.
        (same,) = [
            one
            for one in table.to_dict("records")
            if one["metric"] == accuracy and one["value"] == ours[name, accuracy]["value"]
        ]
        assert (row["verdict"], row["published"]) == (same["verdict"], same["published"])


def test_every_row_has_its_own_verdict_whatever_was_run():
    """Would catch the same fault for one of the two, for another name, and where nothing compares."""
    accuracy = "test_accuracy_all_classes"
    ours = {(name, accuracy): metric(0.776) for name in (ARCFACE, SUBCENTER, BASELINE, "mine")}
    made = reproduction(ours, curves={BASELINE: {53: 0.62}})
    # Our ArcFace has another recipe than either published one.
    made.matches = {**made.matches, SUBCENTER: {"experiment": None, "why": "another recipe", "epochs": 100}}  # fmt: skip
    found = beside(judge_metrics(rows("published.csv"), made), ARCFACE, SUBCENTER, BASELINE)
    assert found[ARCFACE]["published"] != found[ARCFACE]["published"]
    assert found[ARCFACE]["verdict"] == NOT_COMPARABLE
    assert f"is compared with {SUBCENTER}" in found[ARCFACE]["remark"]
    assert found[SUBCENTER]["experiment"] == ARCFACE
    assert found[BASELINE]["experiment"] == BASELINE
    # An experiment with a name of its own, whose recipe two published ones have.
    both = {"experiment": "mine", "why": "", "epochs": 100}
    made.matches = {**made.matches, ARCFACE: both, SUBCENTER: both}
    found = beside(judge_metrics(rows("published.csv"), made), "mine", ARCFACE, "unpublished")
    assert found["mine"]["experiment"] == ARCFACE
    assert f"{SUBCENTER} has the same recipe: {HOLDS}" in found["mine"]["remark"]
    assert found[ARCFACE]["verdict"] == NOT_COMPARABLE
    assert "unpublished" not in found
    # Nothing is comparable: every name has its own figure, and no verdict.
    made = reproduction(ours, obstacle="the data set is mine")
    found = beside(judge_metrics(rows("published.csv"), made), ARCFACE)
    assert (found[ARCFACE]["published"], found[ARCFACE]["verdict"]) == (0.776, NOT_COMPARABLE)


def test_deduction_says_which_of_its_experiments_has_another_name():
    """Would catch two remarks on swapped names that do not say whose they are."""
    made = reproduction({}, {(ARCFACE, SUBCENTER, "precision_at_1"): (0.0, -0.02, 0.02)})
    table = judge_deductions(rows("published_deductions.csv"), made, 0.02)
    row = table.query("experiment == @SUBCENTER and relation == 'higher by'").iloc[0]
    assert f"{ARCFACE}: compared with {SUBCENTER}, which has the recipe" in row["remark"]


def test_stopped_notebooks_are_compared_at_their_epoch():
    """Would catch our last epoch compared with an earlier published one."""
    accuracy = "test_accuracy_all_classes"
    ours = {
        (BASELINE, accuracy): metric(0.66),
        (BASELINE, "test_accuracy_limited_classes"): metric(0.66, queries=2121),
    }
    table = judge_metrics(
        rows("published.csv"), reproduction(ours, curves={BASELINE: {53: 0.62, 100: 0.66}})
    )
    row = verdict(table, BASELINE, accuracy)
    assert (row["value"], row["verdict"]) == (0.62, HOLDS)
    assert "epoch 53" in row["remark"]
    limited = verdict(table, BASELINE, "test_accuracy_limited_classes")
    assert limited["verdict"] == CANNOT_TELL
    table = judge_metrics(rows("published.csv"), reproduction(ours, curves={BASELINE: {100: 0.66}}))
    row = verdict(table, BASELINE, accuracy)
    assert row["verdict"] == CANNOT_TELL
    assert "no point at that epoch" in row["remark"]
    # Not the interval of another epoch.
    assert row[["value", "low", "high"]].isna().all()


def test_obstacle_leaves_no_verdict():
    """Would catch verdicts on the demo."""
    ours = {(BASELINE, "test_accuracy_all_classes"): metric(0.62)}
    made = reproduction(ours, obstacle="the data set is drawn_birds, not the published one")
    table = judge_metrics(rows("published.csv"), made)
    assert set(table["verdict"]) == {NOT_COMPARABLE}
    assert table["remark"].str.contains("drawn_birds").all()
    table = judge_deductions(rows("published_deductions.csv"), made, 0.02)
    assert set(table["direction"]) == {NOT_COMPARABLE}
    assert set(table["size"]) == {""}


def test_deductions_are_judged():
    """Would catch a direction without its size, swapped experiments, or a missing relation."""
    accuracy, drop = "precision_at_1", "precision_drop_unseen_classes"
    made = reproduction(
        {
            (SUBCENTER, drop): metric(0.31, 0.03, 237),
            ("EPSHN_cosine_resnet18_scratch_sgd_aug", accuracy): metric(0.3),
            ("EPSHN_cosine_simclr_resnet18_sgd_aug", accuracy): metric(0.15),
        },
        {
            ("EPSHN_cosine_resnet18_sgd", "EPSHN_cosine_resnet18", accuracy): (0.15, 0.13, 0.17),
            ("EPSHN_cosine_frozenBN_resnet18_sgd_aug", BASELINE, accuracy): (-0.14, -0.16, -0.12),
            ("EPSHN_cosine_resnet18x512_sgd_aug", BASELINE, accuracy): (0.01, -0.005, 0.015),
            ("EPSHN_cosine_resnet18+1dBN_sgd_aug", BASELINE, accuracy): (0.04, 0.03, 0.05),
            (SUBCENTER, BASELINE, accuracy): (0.11, 0.09, 0.13),
            (ARCFACE, SUBCENTER, accuracy): (0.0, -0.02, 0.02),
        },
    )
    table = judge_deductions(rows("published_deductions.csv"), made, 0.02)
    assert len(table) == len(rows("published_deductions.csv"))

    def of(experiment, relation):
        return table.query("experiment == @experiment and relation == @relation").iloc[0]

    row = of("EPSHN_cosine_resnet18_sgd", "higher by")
    assert (row["direction"], row["size"]) == (HOLDS, DOES_NOT_HOLD)  # 0.25 was published
    row = of("EPSHN_cosine_frozenBN_resnet18_sgd_aug", "lower by")
    assert (row["direction"], row["size"]) == (HOLDS, HOLDS)
    assert of("EPSHN_cosine_resnet18x512_sgd_aug", "no effect")["direction"] == HOLDS
    assert of("EPSHN_cosine_resnet18+1dBN_sgd_aug", "no effect")["direction"] == DOES_NOT_HOLD
    row = of(ARCFACE, "higher by")
    assert (row["direction"], row["size"]) == (HOLDS, HOLDS)
    assert SUBCENTER in row["remark"]
    row = of(SUBCENTER, "higher by")
    assert (row["direction"], row["size"]) == (CANNOT_TELL, HOLDS)
    assert of(ARCFACE, "about")["size"] == HOLDS
    assert of("EPSHN_cosine_resnet18_scratch_sgd_aug", "below")["direction"] == DOES_NOT_HOLD
    assert of("EPSHN_cosine_simclr_resnet18_sgd_aug", "below")["direction"] == HOLDS
    # Nothing of ours was given for it.
    row = of("ProxyNCA_cosine_resnet18_sgd_aug", "lower by")
    assert row["direction"] == NOT_COMPARABLE
    # Whatever else is remarked.
    assert row["remark"] == "at softmax_scale 1; we have no such metric"
    assert table["rule"].str.len().min() > 20
    assert "± 2 points" in of("EPSHN_cosine_resnet18x512_sgd_aug", "no effect")["rule"]


def test_unknown_relation_is_named():
    """Would catch a typo in the table that silently gives no verdict."""
    row = {**rows("published_deductions.csv")[0], "relation": "much better"}
    with pytest.raises(StudyError, match="'much better'"):
        judge_deductions([row], reproduction(), 0.02)
