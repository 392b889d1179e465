"""Protocols that others publish: recall among unseen classes, and verdicts on figures of a configuration."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from configurations import PROJECT, PUBLISHED, at, describe, refusal
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from snakemake.utils import update_config

from dmlstudy.evaluate.leave_one_out import leave_one_out, recall, recall_over_runs
from dmlstudy.evaluate.literature import beside_experiments, judge_figures
from dmlstudy.evaluate.published import (
    CANNOT_TELL,
    DOES_NOT_HOLD,
    HOLDS,
    NOT_COMPARABLE,
    Reproduction,
    judge_deductions,
)
from dmlstudy.plan import configuration
from dmlstudy.plan.planning import plan
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.sources import read_yaml

BLOCKS = sorted(path.name for path in (PROJECT / "config" / "literature").glob("*.yaml"))
CLASSIFIER = "crossentropy_resnet18_448"


def drawn(seed, images=60, classes=6, copies=0):
    """Embeddings of a run, and the class of each image; the last images are exact copies of one."""
    generator = np.random.default_rng(seed)
    class_ids = generator.integers(0, classes, images)
    class_ids[: 2 * classes] = np.tile(np.arange(classes), 2)
    vectors = generator.normal(size=(images, 8)) + 2 * np.eye(classes, 8)[class_ids]
    vectors[images - copies :] = vectors[images - copies - 1]
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = generator.permutation(images)
    parts = {"gallery": ids[: images * 2 // 3], "query": ids[images * 2 // 3 :]}
    stored = {f"{role}_image_ids": part for role, part in parts.items()}
    stored |= {f"{role}_embeddings": vectors[part] for role, part in parts.items()}
    return stored, class_ids, vectors


def test_recall_among_unseen_classes_equals_pytorch_metric_learning():
    """Would catch an image that finds itself, a gallery of seen classes, or test images only."""
    stored, class_ids, vectors = drawn(1)
    chosen = np.arange(6) >= 3
    table = leave_one_out(stored, class_ids, chosen, recall_at=[1, 2, 4], threads=1)
    own = np.flatnonzero(chosen[class_ids])
    assert sorted(table["image_id"]) == own.tolist()
    values, labels = torch.tensor(vectors[own]), torch.tensor(class_ids[own])
    oracle = AccuracyCalculator(include=("precision_at_1",), k=1, device=torch.device("cpu"))
    expected = oracle.get_accuracy(values, labels, values, labels, ref_includes_query=True)
    assert recall(table, 1) == pytest.approx(expected["precision_at_1"])
    assert 0 < recall(table, 1) < recall(table, 2) < recall(table, 4)
    similarities = vectors[own] @ vectors[own].T
    np.fill_diagonal(similarities, -2)
    nearest = class_ids[own][np.argsort(-similarities, axis=1)[:, :4]]
    assert recall(table, 4) == np.mean((nearest == class_ids[own][:, None]).any(axis=1))


def test_copies_and_single_images_are_left_out_once():
    """Would catch a copy that hides the image itself, or a class of one image that finds itself."""
    stored, class_ids, _ = drawn(2, copies=9)
    chosen = np.ones(6, dtype=bool)
    table = leave_one_out(stored, class_ids, chosen, recall_at=[1], threads=1)
    copies = set(range(60 - 10, 60))
    labels = class_ids[sorted(copies)]
    ranks = table.set_index("image_id")["first_correct_rank"]
    # A copy is answered by the smallest of the others.
    for image in copies:
        other = min(copies - {image})
        assert (ranks[image] == 1) == (class_ids[other] == class_ids[image])
    assert len(set(labels)) > 1
    class_ids = np.append(class_ids, 6)
    stored["query_image_ids"] = np.append(stored["query_image_ids"], 60)
    stored["query_embeddings"] = np.vstack(
        [stored["query_embeddings"], np.ones((1, 8), np.float32)]
    )
    alone = leave_one_out(stored, class_ids, np.arange(7) == 6, recall_at=[1], threads=1)
    assert alone["first_correct_rank"].tolist() == [0]


def test_recall_over_seeds_and_draws_is_a_mean_of_means():
    """Would catch draws weighted by their images, or an interval of other numbers than the value."""
    ranks = {"a": ([1, 1, 2], [1, 0, 2]), "b": ([1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0])}
    tables = {
        draw: [
            pd.DataFrame({"image_id": np.arange(len(one)) + 2, "first_correct_rank": one})
            for one in of_seeds
        ]
        for draw, of_seeds in ranks.items()
    }
    found = recall_over_runs(tables, [1, 2], draws=500, seed=1)
    values, (low, high) = found[1]
    assert values == pytest.approx([(2 / 3 + 4 / 6) / 2, (1 / 3 + 3 / 6) / 2])
    assert low < values.mean() < high
    assert found[2][0][0] == pytest.approx((1 + 4 / 6) / 2)


def literature(name="cub_official_split.yaml", change=lambda config: None):
    """What is compared for a literature block, after a change of its configuration."""
    config = copy.deepcopy(PUBLISHED)
    update_config(config, read_yaml(PROJECT / "config" / "literature" / name))
    change(config)
    configuration.validate(config, [])
    return reproduction(plan(config, describe), None)


@pytest.mark.parametrize("name", BLOCKS)
def test_each_block_runs_what_its_figures_are_about(name):
    """Would catch a figure that can never get a verdict, or one without a source."""
    found = literature(name)
    assert found["obstacle"] == ""
    assert [figure["why"] for figure in found["figures"]] == [""] * len(found["figures"])
    assert all(len(figure["source"]) > 20 for figure in found["figures"])


@pytest.mark.parametrize(
    ("change", "obstacle", "why"),
    [
        ({"dataset.md5": "0" * 32}, "not the published archive", ""),
        ({"protocol.split": "stratified"}, "protocol.split is stratified, it was official", ""),
        ({"protocol.image_size": 32}, "protocol.image_size is 32, it was 448", "image_size 448 (here 32)"),
        ({f"experiments.{CLASSIFIER}.image_size": 96}, "", "image_size 448 (here 96)"),
        ({f"experiments.{CLASSIFIER}.loss": {"kind": "arcface"}}, "", "loss.kind crossentropy (here arcface)"),
        ({"only": ["crossentropy_resnet50_448"], "baseline": "crossentropy_resnet50_448"}, "", "not run here"),
    ],
)  # fmt: skip
def test_another_protocol_or_recipe_gets_no_verdict(change, obstacle, why):
    """Would catch a verdict on a figure that was made in another way."""

    def changed(config):
        for key, value in change.items():
            mapping, last = at(config, key)
            mapping[last] = value

    found = literature(change=changed)
    assert obstacle in found["obstacle"]
    assert bool(obstacle) == bool(found["obstacle"])
    assert why in found["figures"][0]["why"]
    assert bool(why) == bool(found["figures"][0]["why"])


def test_selected_values_were_not_published():
    """Would catch a verdict on a value that nobody knows before the selection."""

    def changed(config):
        config["published"]["figures"][0]["recipe"]["optimizer.lr"] = 0.01
        config["experiments"][CLASSIFIER] |= {
            "selection": {"optimizer.lr": [0.1, 0.2]},
            "unsourced": [],
        }
        config["experiments"]["crossentropy_resnet50_448"]["selection"] = {}

    assert literature(change=changed)["figures"][0]["why"] == "its values were selected here"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol": {"image_sice": 3}}, "published.protocol.image_sice: is no key of protocol"),
        ({"figures.experiment": "nobody"}, "published.figures.0.experiment: 'nobody' is no experiment"),
        ({"figures.recipe": {"los.kind": 3}}, "published.figures.0.recipe.los.kind: is no key of a recipe"),
        ({"figures.value": 82.4}, "published.figures.0.value: is 82.4; must be < 1"),
    ],
)  # fmt: skip
def test_mistakes_in_published_figures_are_told(change, words):
    """Would catch a figure that is silently compared with nothing."""
    config = copy.deepcopy(PUBLISHED)
    update_config(config, read_yaml(PROJECT / "config" / "literature" / "cub_official_split.yaml"))
    for key, value in change.items():
        part, _, inner = key.partition(".")
        if inner:
            config["published"][part][0][inner] = value
        else:
            config["published"][part] = value
    assert words in refusal(config)


def figure(**changes):
    values = {"experiment": "a", "metric": "softmax_accuracy", "value": 0.8, "tolerance": 0.01}
    return {**values, "source": "a paper", "differs": None, "why": "", **changes}


def judged(*figures, size=None, obstacle="", low=0.7, high=0.795):
    metrics = {("a", "softmax_accuracy"): {"value": 0.78, "low": low, "high": high, "queries": 10}}
    found = {"obstacle": obstacle, "size": size, "figures": list(figures)}
    return judge_figures(found, Reproduction({}, metrics, {}, {}), (30, 10))


def test_verdicts_follow_interval_and_tolerance():
    """Would catch a tolerance that is not used, or a verdict where nothing can be compared."""
    first = judged(figure()).iloc[0]
    assert (first["verdict"], first["value"], first["published_low"]) == (HOLDS, 0.78, 0.79)
    assert first["remark"] == "source: a paper"
    assert judged(figure(tolerance=0.001)).iloc[0]["verdict"] == DOES_NOT_HOLD
    assert judged(figure(), low=float("nan")).iloc[0]["verdict"] == CANNOT_TELL
    for table, words in (
        (judged(figure(why="another recipe")), "another recipe"),
        (judged(figure(), obstacle="other birds"), "other birds"),
        (judged(figure(), size=[5, 5]), "30 gallery images and 10 queries"),
        (judged(figure(metric="recall")), "a has no recall"),
    ):
        assert table.iloc[0]["verdict"] == NOT_COMPARABLE
        assert table.iloc[0]["remark"].startswith(words)
        assert pd.isna(table.iloc[0]["value"])
        assert table.iloc[0]["remark"].endswith("; source: a paper")
    assert judged(figure(), size=[30, 10]).iloc[0]["verdict"] == HOLDS


def test_only_accuracies_stand_in_the_column_of_accuracies():
    """Would catch a recall that a reader takes for a test accuracy."""
    table = judged(figure(metric="limited_recall"), figure())
    beside = beside_experiments(table)
    assert np.isnan(beside["a"]["published"])
    assert beside["a"]["remark"].startswith("limited_recall: ")
    assert beside_experiments(judged(figure()))["a"]["published"] == 0.8


def test_a_study_without_published_conclusions_has_an_empty_table():
    """Would catch a table without columns, which no page can read."""
    table = judge_deductions([], Reproduction({}, {}, {}, {}), 0.02)
    assert len(table) == 0
    assert {"experiment", "direction", "rule"} <= set(table.columns)
