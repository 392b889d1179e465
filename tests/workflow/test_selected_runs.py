"""An experiment with selected values: candidates are tried, one is chosen, then it is trained."""

import json

import pandas as pd
import pytest
import torch
import yaml

ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
TUNED = "ArcFace_cosine_resnet18_tuned"
ENTRY = {
    "like": ARCFACE,
    "block": "tuned",
    "samples_per_class": 4,
    "selection": {"optimizer.lr": [0.5, 0.02], "loss.scale": [16]},
    "unsourced": ["samples_per_class"],
}
CANDIDATES = ["loss.scale=16+optimizer.lr=0.5", "loss.scale=16+optimizer.lr=0.02"]
RUN = f"experiments/{TUNED}/seed42/limited_classes"


def add(project, entry=ENTRY):
    project.change_yaml(
        "config/experiments.yaml", lambda config: config["experiments"].update({TUNED: entry})
    )
    project.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: config.update(only=list(dict.fromkeys([*config["only"], TUNED]))),
    )


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """The finished study with one more experiment, whose values are selected.

    One model is trained.
    """
    project = finished.copy(tmp_path_factory.mktemp("tuned") / "project")
    add(project)
    project.snakemake(
        *(
            f"results/tiny/{name}"
            for name in (
                "comparison/tuning.csv",
                f"experiments/{TUNED}/config.yaml",
                f"{RUN}/model.pt",
            )
        )
    )
    return project


def chosen_by(project):
    return json.loads(project.result(f"experiments/{TUNED}/selection/chosen.json").read_text())


def test_table_of_candidates_says_which_was_chosen_by_what(tuned):
    """Would catch a missing candidate, a choice against the rule, or a budget that is not shown."""
    table = pd.read_csv(tuned.result("comparison/tuning.csv"))
    assert table["experiment"].tolist() == [TUNED] * 2
    assert table["values"].tolist() == CANDIDATES
    assert table["candidates"].tolist() == [2, 2]
    # Four seen classes: one is held out.
    assert set(zip(table["trained_classes"], table["held_out_classes"], strict=True)) == {(3, 1)}
    first, second = table["precision_at_1_validation"], table["precision_at_1_held_out_classes"]
    mean = (2 * first * second / (first + second)).fillna(0)
    assert (table["harmonic_mean"] - mean).abs().max() < 1e-5
    # idxmax gives the first of equals too.
    assert table["chosen"].tolist() == [int(i == mean.idxmax()) for i in range(2)]
    assert chosen_by(tuned)["candidate"] == table["values"][mean.idxmax()]


def test_chosen_values_are_trained_and_written_down(tuned):
    """Would catch a model trained with inherited values, or a recipe without the selected ones."""
    values = chosen_by(tuned)["values"]
    recipe = torch.load(tuned.result(f"{RUN}/model.pt"), weights_only=True)["recipe"]
    assert recipe["loss"] == {"kind": "arcface", "margin": 28.6, "scale": 16}
    assert recipe["optimizer"]["lr"] == values["optimizer.lr"]
    described = yaml.safe_load(tuned.result(f"experiments/{TUNED}/config.yaml").read_text())
    assert described["selected"] == values
    assert described["unsourced"] == ["samples_per_class"]
    for key in ("loss", "optimizer", "samples_per_class"):
        assert described["recipe"][key] == recipe[key]


def test_selection_touches_nothing_else(tuned):
    """Would catch a selection that trains the other experiments again."""
    planned = tuned.planned()
    assert planned == sorted(
        [
            f"Train {TUNED} (all_classes, seed 42)",
            f"Evaluate {TUNED}",
            f"Answer in several ways by {TUNED}",
            f"Score the rejection of {TUNED}",
            "Measure the models",
            f"Check the health of {TUNED}",
            f"Draw heat maps of {TUNED} (seed 42)",
            f"Map the embeddings of {TUNED}",
            f"Track {TUNED} (limited_classes, seed 42)",
            f"Build the report of {TUNED}",
            "Compare all experiments",
            "Build the page that compares all experiments",
        ]
    )


def test_longer_list_tries_the_new_candidates_only(tuned, tmp_path):
    """Would catch one more value that tries all others again, or that does not reach the models."""
    project = tuned.copy(tmp_path / "project")
    add(project, {**ENTRY, "selection": {"loss.scale": [16], "optimizer.lr": [0.5, 0.02, 0.1]}})
    planned = project.planned("results/tiny/comparison/tuning.csv", f"results/tiny/{RUN}/model.pt")
    assert planned == sorted(
        [
            f"Try {TUNED} with loss.scale=16+optimizer.lr=0.1",
            f"Choose the values of {TUNED}",
            f"Train {TUNED} (limited_classes, seed 42)",
            "Compare all candidates",
        ]
    )


def test_other_unseen_classes_select_anew(tuned, tmp_path):
    """Would catch values that were chosen on classes which are now unseen."""
    project = tuned.copy(tmp_path / "project")
    project.edit("tests/workflow/tiny.yaml", "unseen_classes: 2", "unseen_classes: 3")
    planned = project.planned("results/tiny/comparison/tuning.csv")
    assert "Hold out images and classes of tiny_birds for selections" in planned
    assert [job for job in planned if job.startswith("Try")] == sorted(
        f"Try {TUNED} with {candidate}" for candidate in CANDIDATES
    )


def test_tuned_variants_are_planned_beside_the_published_ones(fresh):
    """Would catch a file of entries that does not fit the study, or that replaces entries of it."""
    planned = fresh.planned("--resources", "gpu=1", config="config/extended.yaml")
    before = fresh.planned("--resources", "gpu=1", config=None)
    assert set(before) < set(planned)
    tried = [job for job in planned if job.startswith("Try")]
    assert len(tried) == 10 * 9
    assert len([job for job in planned if job.startswith("Choose the values of")]) == 10
    assert len([job for job in planned if job.startswith("Train")]) == 2 * (18 + 10)
