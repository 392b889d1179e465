"""The verdict of the tiny study: tables of the rule that compares, and the page."""

import json

import pandas as pd
import pytest

CLASSIFIED = "EPSHN_cosine_resnet18_classifier_sgd_aug"
ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
UNTRAINED = "other_species_resnet18"
KEYS = ["experiment", "trained", "new_classes", "answer", "photographs"]


def table(study, name):
    return pd.read_csv(study.result(f"comparison/{name}.csv"), dtype={"photographs": str})


def one(rows, experiment, new_classes, answer="nearest"):
    keys = {"experiment": experiment, "new_classes": new_classes, "answer": answer}
    found = rows[(rows[list(keys)] == list(keys.values())).all(axis=1)]
    found = found[found["photographs"] == "all"]
    assert len(found) == 1
    return found.iloc[0]


def test_nearest_options_are_the_studys_own_metrics(finished):
    """Would catch an option that counts or resamples in another way than summary.csv."""
    verdict = table(finished, "verdict")
    summary = pd.read_csv(finished.result(f"experiments/{ARCFACE}/summary.csv")).set_index("metric")
    for new_classes, model in (("enrolled", "limited"), ("retrained", "all_classes")):
        own = one(verdict, ARCFACE, new_classes)
        pairs = {
            f"precision_at_1_{part}_classes": f"{model}_precision_at_1_{part}_classes"
            for part in ("seen", "unseen")
        }
        for column, metric in {**pairs, "harmonic_mean": f"{model}_harmonic_mean"}.items():
            found = own[[column, f"{column}_low", f"{column}_high"]].tolist()
            expected = summary.loc[metric, ["value", "low", "high"]].tolist()
            assert found == pytest.approx(expected, abs=1e-6), metric


def test_every_experiment_has_its_options(finished):
    """Would catch untrained features that are retrained, or an experiment that is left out."""
    verdict = table(finished, "verdict")
    names = pd.read_csv(finished.result("comparison/experiments.csv"))["experiment"]
    assert set(verdict["experiment"]) == set(names)
    of_untrained = verdict[verdict["experiment"] == UNTRAINED]
    assert set(of_untrained["new_classes"]) == {"enrolled"}
    assert set(of_untrained["trained"]) == {"nothing"}
    others = verdict[verdict["experiment"] != UNTRAINED]
    assert set(others["trained"]) == {"backbone"}
    assert set(others["new_classes"]) == {"enrolled", "retrained"}
    # A class has four images in the gallery.
    assert set(verdict["photographs"]) == {"1", "2", "all"}
    costs = table(finished, "verdict_costs")
    assert costs[KEYS].equals(verdict[KEYS])
    assert not [column for column in verdict if "seconds" in column or "device" in column]


def test_retraining_includes_the_initializer_that_trains_again(finished):
    """Would catch an initializer of the study's images that costs nothing, or one of others that trains again."""
    costs, models = table(finished, "verdict_costs"), table(finished, "model_costs")
    assert "milliseconds_a_photograph" in models
    fitted = table(finished, "answers_costs")
    for experiment in (CLASSIFIED, ARCFACE):
        folder = finished.result(f"experiments/{experiment}/seed42/all_classes")
        seconds = json.loads((folder / "cost.json").read_text())["train_seconds"]
        if experiment == CLASSIFIED:
            start = finished.result("initializers/classifier/all_classes/seed42/resnet18_cost.json")
            seconds += json.loads(start.read_text())["train_seconds"]
        model = models[models["experiment"] == experiment].iloc[0]
        # 23 images in the gallery.
        seconds += 23 * model["milliseconds_a_photograph"] / 1000
        way = fitted[(fitted["experiment"] == experiment) & (fitted["answer"] == "nearest")]
        seconds += way["seconds_to_fit"].iat[0]
        own = one(costs, experiment, "retrained")
        assert own["seconds_to_add_them"] == pytest.approx(seconds, abs=1e-4)
        assert own["gflop"] == pytest.approx(0.0742, abs=1e-4)
    assert one(costs, UNTRAINED, "enrolled")["seconds_to_train_first"] == 0
    assert one(costs, UNTRAINED, "enrolled")["trained_parameters"] == 0


def test_page_shows_the_verdict(finished):
    """Would catch a page without the verdict, or one that claims what was not run."""
    text = finished.result("comparison/index.html").read_text()
    section = text.split('<section id="verdict">')[1].split("</section>")[0]
    assert "Enrol, train a head, or retrain?" in section
    assert "No head was trained on features of a network that stays as it is" in section
    assert 'id="chart-verdict"' in section
