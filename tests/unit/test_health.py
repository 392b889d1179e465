"""Health of trainings: planted defects are found, through the real training and evaluation."""

import json
import logging
import math

import numpy as np
import pandas as pd
import pytest
from helpers import TinyStudy, small_recipe, unit

from dmlstudy.core.files import StudyError, write_json
from dmlstudy.data.dataset import write_csv
from dmlstudy.evaluate import health
from dmlstudy.evaluate.evaluation import evaluate_experiment
from dmlstudy.evaluate.health import CANNOT_TELL, FINE, HINT, SIGNS, WARNING, FinishedRun
from dmlstudy.evaluate.health_table import baseline_notice, counted, health_table, log_findings
from dmlstudy.evaluate.spread import effective_rank, similarities, spread
from dmlstudy.evaluate.stored_runs import StoredRuns
from dmlstudy.pages.comparison_page import _health
from dmlstudy.train.run import train_run

SETS = ("all_classes", "limited_classes")
GENTLE = {"epochs": 4, "optimizer": {"kind": "sgd", "lr": 0.01}}
UNTRAINED = {"epochs": 0, "head": {"kind": "none"}}


# Spread of embeddings.


def slow_effective_rank(values):
    """Roy and Vetterli's definition, step by step."""
    values = values.astype(float)
    covariance = np.cov(values, rowvar=False, bias=True)
    singular = np.linalg.svd(np.atleast_2d(covariance), compute_uv=False)
    entropy = 0.0
    for value in singular:
        share = value / singular.sum()
        if share > 0:
            entropy -= share * math.log(share)
    return math.exp(entropy)


@pytest.mark.parametrize(("count", "dim"), [(40, 6), (9, 30), (5000, 3), (7, 7)])
def test_effective_rank_equals_a_slow_reference(count, dim):
    """Would catch singular values of another matrix, embeddings that are not centred, or lost blocks."""
    rng = np.random.default_rng(count)
    values = (unit(rng, count, dim) * np.linspace(0.1, 2, dim) + 1).astype(np.float32)
    assert effective_rank(values) == pytest.approx(slow_effective_rank(values), rel=1e-6)


def test_effective_rank_of_known_shapes():
    """Would catch a rank that rounding invents for equal embeddings, or an entropy to another base."""
    both = np.concatenate([np.eye(5), -np.eye(5)])
    assert effective_rank(both) == pytest.approx(5)
    line = np.linspace(-1, 1, 9)[:, None] * unit(np.random.default_rng(0), 1, 16)
    assert effective_rank(line) == pytest.approx(1)
    equal = np.repeat(unit(np.random.default_rng(1), 1, 128), 500, axis=0)
    assert effective_rank(equal) == 0
    rounded = equal * (
        1 + np.float32(6e-8) * np.random.default_rng(2).choice([-1, 0, 1], equal.shape)
    )
    assert effective_rank(rounded.astype(np.float32)) == 0


@pytest.mark.parametrize(("count", "dim"), [(30, 4), (6, 20)])
def test_similarities_equal_those_of_all_pairs(count, dim):
    """Would catch pairs of an image with itself, or embeddings of length 0 that count as 1."""
    values = unit(np.random.default_rng(dim), count, dim)
    values[2] = 0
    found = [
        float(values[one].astype(float) @ values[other])
        for one in range(count)
        for other in range(count)
        if one != other
    ]
    assert similarities(values) == pytest.approx((np.mean(found), np.std(found)), abs=1e-7)
    assert spread(values[:1])["gallery_mean_similarity"] is None


# Real trainings.


class Finished:
    """Runs of a tiny study, trained, evaluated and stored as the workflow does.

    Only all-classes models are trained. Their embeddings stand for those of the limited models.
    """

    def __init__(self, folder, classes, images):
        folder.mkdir()
        self.study = TinyStudy(folder, classes=classes, images=images, unseen=1)
        self.root = folder / "experiments"
        self.masks = {name: self.study.dataset(name).seen for name in SETS}

    def add(self, name, *, spoil=None, **changes):
        """Train and evaluate an experiment; ``spoil(dataset)`` changes what it is trained on."""
        recipe, dataset = small_recipe(**changes), self.study.dataset()
        if spoil:
            spoil(dataset)
        run = train_run(recipe, dataset, self.study.train_pack, self.study.test_pack)
        self.store(name, recipe, run.curve, run.embeddings)
        return run

    def store(self, name, recipe, curve, embeddings):
        def write(file, value):
            path = self.root / name / file
            write_json(path, value) if file.endswith(".json") else write_csv(path, value)

        for class_set in SETS:
            write(f"seed42/{class_set}/curves.csv", pd.DataFrame(curve))
        evaluate_experiment(
            [self.study.dataset(class_set) for class_set in SETS],
            [42],
            lambda seed, class_set: (
                embeddings,
                curve[-1]["test_accuracy"] if class_set == SETS[0] else math.nan,
            ),
            write,
            recall_at=[1],
            votes=[1],
            enrolment_images=[1],
            enrolment_draws=1,
            bootstrap_draws=50,
            bootstrap_seed=42,
            threads=1,
        )
        write("recipe.json", recipe.as_dict())

    def health(self, name, start=None):
        """The table of health of an experiment, indexed by class set and sign."""
        runs = StoredRuns(self.root, [name], [42], self.masks)
        recipe = json.loads((self.root / name / "recipe.json").read_text())
        table = health_table(runs, name, recipe, start, draws=300, seed=1)
        return table.set_index(["class_set", "sign"])

    def sick(self, name, start=None):
        """Signs that warn of the all-classes model."""
        table = self.health(name, start).loc["all_classes"]
        return set(table.index[table["finding"] == WARNING])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    finished = Finished(tmp_path_factory.mktemp("health") / "study", classes=4, images=20)
    finished.add("untrained", **UNTRAINED)
    finished.gentle = finished.add("gentle", **GENTLE)
    return finished


def test_gentle_training_has_no_warning(finished):
    """Would catch signs that fire on a training in which nothing is wrong."""
    table = finished.health("gentle", "untrained")
    warned = table[table["finding"] == WARNING]
    assert warned.empty, warned["sentence"].tolist()
    assert finished.sick("untrained") == set()
    assert set(finished.health("untrained").loc["all_classes"].index) == {
        "equal_embeddings",
        "few_directions",
    }


def test_too_high_a_rate_is_told(tmp_path):
    """Would catch a training that destroyed its features and looks like any other."""
    finished = Finished(tmp_path / "study", classes=12, images=10)
    finished.add("untrained", **UNTRAINED)
    finished.add(
        "wild",
        epochs=2,
        head={"kind": "linear", "embedding_dim": 2},
        optimizer={"kind": "adam", "lr": 100.0},
    )
    assert finished.sick("wild", "untrained") >= {"worse_than_start", "equal_embeddings"}
    assert "worse_than_start" not in finished.sick("wild")
    row = finished.health("wild", "untrained").loc[("all_classes", "worse_than_start")]
    start, own = (
        json.loads((finished.root / name / "seed42/all_classes/summary.json").read_text())
        for name in ("untrained", "wild")
    )
    assert row["value"] == pytest.approx(own["precision_at_1"] - start["precision_at_1"])
    assert row["high"] < 0
    assert "of untrained, its features before training" in row["sentence"]
    assert "optimizer.lr" in row["try_this"]
    untold = finished.health("wild").loc[("all_classes", "worse_than_start")]
    assert untold["finding"] == CANNOT_TELL
    assert "no untrained row" in untold["sentence"]


def test_constant_labels_are_told(finished):
    """Would catch a training whose loss has nothing to teach."""

    def spoil(dataset):
        dataset.labels = np.where(dataset.labels >= 0, 0, -1)

    finished.add("constant", spoil=spoil, **GENTLE)
    assert "loss_does_not_fall" in finished.sick("constant", "untrained")


def test_collapsed_head_is_told(finished):
    """Would catch embeddings that are all the same point, or all on a line."""
    for name, squeeze in (
        (
            "point",
            lambda values: np.broadcast_to(unit(np.random.default_rng(0), 1, 8), values.shape),
        ),
        ("line", lambda values: np.sign(values[:, :1]) * unit(np.random.default_rng(0), 1, 8)),
    ):
        values = dict(finished.gentle.embeddings)
        for role in ("gallery_embeddings", "query_embeddings"):
            values[role] = np.ascontiguousarray(squeeze(values[role]), dtype=np.float32)
        curve = [{"epoch": 1, "train_loss": 1.0, "test_accuracy": math.nan}]
        finished.store(name, small_recipe(), curve, values)
        expected = {"few_directions", "equal_embeddings"} if name == "point" else {"few_directions"}
        assert finished.sick(name) >= expected
        assert ("equal_embeddings" in finished.sick(name)) == (name == "point")


# Each sign, on figures.


def made(**changes):
    """A healthy run of 20 classes; ``changes`` replace its parts."""
    classes = np.repeat(np.arange(20), 12)
    answers = pd.DataFrame({"class_id": classes, "correct": np.arange(240) % 2})
    parts = {
        "recipe": {"epochs": 8, "batch_size": 64, "samples_per_class": None},
        "summary": {
            "classes": 20,
            "gallery": 960,
            "embedding_dim": 128,
            "gallery_effective_rank": 12.5,
            "gallery_mean_similarity": 0.03,
            "gallery_similarity_spread": 0.37,
            "test_accuracy_known_classes": 0.5,
        },
        "curve": curve_of([0.53, 0.5, 0.48, 0.47, 0.46, 0.455, 0.45, 0.45]),
        "metrics": pd.DataFrame({"train_samples": [48] * 20}),
        "queries": answers,
        "seen": np.ones(20, dtype=bool),
        "start": "untrained",
        "start_queries": answers,
        "draws": 500,
        "bootstrap_seed": 1,
    }
    return FinishedRun(**{**parts, **changes})


def curve_of(losses, accuracies=None):
    table = pd.DataFrame({"epoch": range(1, len(losses) + 1), "train_loss": losses})
    return table.assign(test_accuracy=accuracies or [0.5] * len(losses))


def summary_of(**changes):
    return {**made().summary, **changes}


def kind(sign, **changes):
    return getattr(health, sign)(made(**changes)).finding


def test_healthy_run_has_no_finding():
    """Would catch a sign that fires on ordinary figures, or that has no words."""
    for run in (made(), made(seen=np.arange(20) < 12)):
        found = health.findings(run)
        assert {row["finding"] for row in found} == {FINE}
        assert len(found) == len(SIGNS) - (not run.limited)
        for row in found:
            assert row["sentence"]
            assert row["try_this"] == ""
            assert np.isfinite(row["threshold"])
    assert len({sign.name for sign in SIGNS}) == len(SIGNS)


# Losses and effective ranks of the demo's rows whose features work (precision@1 of 43 to 62 %).
HEALTHY = {
    "euclidean": ([0.491, 0.438, 0.396, 0.359], 6.0, 0.46),
    "euclidean, limited": ([0.468, 0.431, 0.402, 0.398], 6.2, 0.47),
    "cosine, limited": ([0.523, 0.524, 0.512, 0.501], 5.5, 0.50),
    "baseline": ([0.528, 0.504, 0.480, 0.470], 12.6, 0.38),
    "frozenBN": ([0.566, 0.551, 0.551, 0.525], 10.4, 0.39),
    "x512": ([0.546, 0.517, 0.485, 0.475], 18.5, 0.34),
    "1dBN, limited": ([0.478, 0.473, 0.454, 0.457], 21.9, 0.31),
    "ProxyNCA": ([2.929, 2.741, 2.596, 2.493], 13.0, 0.40),
    "ArcFace, limited": ([42.05, 34.885, 31.56, 30.199], 5.7, 0.09),
    "SubCenterArcFace, limited": ([36.427, 33.257, 32.206, 31.737], 6.2, 0.07),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_signs_are_silent_on_rows_of_the_demo_that_work(name):
    """Would catch a threshold that calls a working training sick."""
    losses, rank, deviation = HEALTHY[name]
    summary = summary_of(gallery_effective_rank=rank, gallery_similarity_spread=deviation)
    recipe = {**made().recipe, "epochs": 4}
    run = made(curve=curve_of(losses), summary=summary, recipe=recipe)
    assert [row["sign"] for row in health.findings(run) if row["finding"] != FINE] == []


@pytest.mark.parametrize(
    ("losses", "fall", "rise"),
    [
        ([0.602, 0.596, 0.609, 0.619], WARNING, FINE),
        ([0.5, 0.495, 0.492, 0.491], WARNING, FINE),
        ([0.5, 0.48, 0.485, 0.489], FINE, FINE),
        ([0.0, 0.0, 0.0, 0.0], WARNING, FINE),
        ([2.0, 1.0, 0.5, 1.6], FINE, WARNING),
        ([0.5, 0.002, 0.001, 0.004], FINE, FINE),
        ([0.5, 0.3, math.nan, math.nan], CANNOT_TELL, WARNING),
        ([0.5, 0.3, math.inf], CANNOT_TELL, WARNING),
        ([0.5], CANNOT_TELL, FINE),
    ],
)
def test_signs_of_the_loss(losses, fall, rise):
    """Would catch NaN that passes for a fall, noise near zero that passes for a rise, or a constant loss."""
    curve = curve_of(losses)
    assert kind("loss_does_not_fall", curve=curve) == fall
    assert kind("diverged", curve=curve) == rise


def test_a_loss_that_never_rose_is_not_said_to_rise():
    """Would catch "rose from 0.4 to 0.4" of a training whose last epoch is its best."""
    found = health.diverged(made(curve=curve_of([0.6, 0.5, 0.4])))
    assert found.sentence == "the training loss is lowest in the last epoch: 0.4"


def test_nan_is_named_with_its_epoch():
    """Would catch a diverged training whose epoch one has to look for."""
    found = health.diverged(made(curve=curve_of([0.5, 0.3, math.nan])))
    assert found.sentence == "the training loss of epoch 3 is not a finite number"


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([0.2, 0.3, 0.4, 0.5], HINT),
        ([0.2, 0.3, 0.4, 0.5, 0.5, 0.51, 0.5, 0.51], FINE),
        ([0.5, 0.501, 0.502, 0.503], FINE),
        ([0.5, 0.4, 0.6, 0.5], FINE),
        ([0.5, 0.5, 0.5, 0.5], FINE),
        ([0.2, None, 0.4, 0.5], CANNOT_TELL),
        ([*np.linspace(0.1, 0.5, 60), *([0.5, 0.49] * 20)], FINE),
        ([*([0.3, 0.29] * 30), *np.linspace(0.3, 0.4, 40)], HINT),
    ],
)
def test_sign_of_a_rising_curve(accuracies, expected):
    """Would catch an early rise that counts, noise that counts, or two points that make a trend."""
    curve = curve_of(np.linspace(1, 0.5, len(accuracies)), list(accuracies))
    assert kind("still_rising", curve=curve) == expected


@pytest.mark.parametrize(
    ("classes", "dim", "gallery", "rank", "expected"),
    [
        (20, 128, 960, 4.3, WARNING),
        (20, 128, 960, 4.4, FINE),
        (200, 128, 9430, 7.6, WARNING),
        (200, 128, 9430, 7.7, FINE),
        # A narrow embedding cannot vary in more directions than it has.
        (200, 4, 9430, 1.9, WARNING),
        (200, 4, 9430, 2.1, FINE),
        (200, 128, 5, 2.1, FINE),
    ],
)
def test_sign_of_few_directions(classes, dim, gallery, rank, expected):
    """Would catch a threshold that does not follow the number of classes and the width."""
    summary = summary_of(
        classes=classes, embedding_dim=dim, gallery=gallery, gallery_effective_rank=rank
    )
    assert kind("few_directions", summary=summary) == expected


def test_sign_of_chance():
    """Would catch chance of all classes for a model of few, or an accuracy that is lucky."""
    assert kind("at_chance", summary=summary_of(test_accuracy_known_classes=0.05)) == WARNING
    assert kind("at_chance", summary=summary_of(test_accuracy_known_classes=0.07)) == WARNING
    assert kind("at_chance", summary=summary_of(test_accuracy_known_classes=0.12)) == FINE
    # Four classes: a quarter is chance.
    few = {"seen": np.arange(20) < 4, "summary": summary_of(test_accuracy_known_classes=0.3)}
    assert kind("at_chance", **few) == WARNING
    assert "48 queries of the 4 classes" in health.at_chance(made(**few)).sentence
    assert "192 images, 24 steps" in health.at_chance(made(**few)).sentence


@pytest.mark.parametrize("samples_per_class", [None, 2])
@pytest.mark.parametrize("images", [7, 8, 9, 10, 15, 16, 17, 31])
def test_steps_are_those_of_the_training(images, samples_per_class):
    """Would catch a number of steps that is not the number of batches, such as a rest that is left out."""
    from dmlstudy.compute.batches import epoch_batches

    labels = np.arange(images) % 4
    recipe = {"epochs": 3, "batch_size": 8, "samples_per_class": samples_per_class}
    metrics = pd.DataFrame({"train_samples": np.bincount(labels, minlength=20)})
    batches = epoch_batches(labels, 8, 0, samples_per_class=samples_per_class)
    run = made(recipe=recipe, metrics=metrics)
    assert run.steps == 3 * len(batches)
    assert health.few_steps(run).finding == (WARNING if run.steps < 20 else FINE)


def answers_of(correct):
    return made().queries.assign(correct=correct)


def test_worse_than_before_training_is_judged_on_trained_classes():
    """Would catch a limited model that is judged by unseen classes, or a difference that chance makes."""
    seen = np.arange(20) < 12
    known = seen[made().queries["class_id"]]
    before = answers_of(np.ones(240, dtype=int))
    forgot = {"seen": seen, "start_queries": before, "queries": answers_of(known.astype(int))}
    assert kind("worse_than_start", **forgot) == FINE
    assert kind("unseen_worse_than_start", **forgot) == HINT
    assert "96 queries" in health.unseen_worse_than_start(made(**forgot)).sentence
    assert kind("worse_than_start", start_queries=before) == WARNING
    one_less = answers_of(np.where(np.arange(240) == 5, 0, 1))
    assert kind("worse_than_start", start_queries=before, queries=one_less) == FINE
    assert kind("worse_than_start", start=None, start_queries=None) == CANNOT_TELL


# Table, log, pages.


def table_of(*rows):
    keys = ("experiment", "seed", "class_set", "sign", "title", "finding", "sentence", "try_this")
    return pd.DataFrame([dict(zip(keys, row, strict=True)) for row in rows])


WORSE = ("base", 42, "all_classes", "worse_than_start", "worse than before training", WARNING, "it fell", "less")  # fmt: skip
RISES = ("base", 42, "all_classes", "still_rising", "still rising", HINT, "it rises", "more")
UNTOLD = ("other", 42, "all_classes", "worse_than_start", "worse than before training", CANNOT_TELL, "no row", "")  # fmt: skip


def test_log_has_every_finding_and_the_terminal_one_line(caplog):
    """Would catch a warning that only a table has, or a terminal full of hints."""
    caplog.set_level(logging.INFO)
    log_findings(table_of(WORSE, RISES, UNTOLD))
    assert "base, seed 42, all_classes: warning: worse than before training: it fell; try: less" in caplog.messages  # fmt: skip
    assert "other, seed 42, all_classes: cannot tell: worse than before training: no row" in caplog.messages  # fmt: skip
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert shown == [
        "health of base: 1 warning (worse than before training), 1 hint (still rising)"
    ]
    assert counted(table_of(UNTOLD)) == ""


def test_notice_is_about_the_baseline_only():
    """Would catch a head of the page that is silent, or that speaks of another row."""
    table = table_of(WORSE, RISES, UNTOLD)
    assert baseline_notice(table, "base") == ["all classes, seed 42: it fell"]
    assert baseline_notice(table, "other") == []
    assert baseline_notice(table_of(RISES), "base") == []
    page = _health(table, pd.DataFrame({"baseline": ["base", "base"]}))
    assert page["notice"] == ["all classes, seed 42: it fell"]
    assert page["without_start"] == ["other"]
    assert [row["finding"] for row in page["findings"]] == [WARNING, HINT]


def test_embeddings_of_nan_are_refused(tmp_path):
    """Would catch a diverged model whose figures enter a table."""
    from dmlstudy.evaluate.retrieval import read_embeddings

    values = unit(np.random.default_rng(0), 4, 3)
    values[1, 2] = np.nan
    np.savez(
        tmp_path / "embeddings.npz",
        **{f"{role}_embeddings": values for role in ("gallery", "query")},
    )
    with pytest.raises(
        StudyError, match=r"not finite; the training diverged: lower its optimizer\.lr"
    ):
        read_embeddings(tmp_path / "embeddings.npz")
