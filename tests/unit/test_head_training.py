"""Heads that train on stored features: as if the backbone stood still, bit for bit again, and resumable."""

import numpy as np
import pandas as pd
import pytest
import torch
from configurations import refusal, small
from helpers import TinyStudy, small_recipe
from sklearn.linear_model import LogisticRegression
from test_resume import Interrupted, Killed, same, without_times

from dmlstudy.compute.batches import ImageBatches, epoch_batches
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.compute.devices import derived_seed
from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.compute.feature_files import write_features
from dmlstudy.compute.features import Features
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.held_out import HELD_OUT, TRAIN, VALIDATION
from dmlstudy.plan.needs import PAIRS
from dmlstudy.plan.recipe import FeatureRecipe
from dmlstudy.plan.training_checks import WEIGHTLESS
from dmlstudy.train import head_trainer
from dmlstudy.train.building import build_model, build_optimizer, build_piece
from dmlstudy.train.candidate import try_recipe
from dmlstudy.train.head_trainer import HeadTrainer
from dmlstudy.train.job import words_of
from dmlstudy.train.resume import SavedState
from dmlstudy.train.run import train_run

FEATURES = FeatureRecipe("resnet18", 32, "float32", 1, "cpu")
MOMENTUM = {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 0.001}
PROBE = {"head": {"kind": "none"}, "loss": {"kind": "crossentropy"}, "optimizer": MOMENTUM}
RECIPES = {
    "epshn": {"samples_per_class": 2},
    "probe": PROBE,
    "arcface": {"loss": {"kind": "arcface"}, "loss_lr": 0.1, "optimizer": {"kind": "adam"}},
    "batchnorm": {"head": {"kind": "batchnorm", "embedding_dim": 8}, "optimizer": MOMENTUM},
    "dropout": {"head": {"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.5}},
    "schedule": {"schedule": {"kind": "cosine", "warmup": 1}, "loss": {"kind": "proxy_anchor"}},
    "bfloat16": {"precision": "bfloat16", "optimizer": MOMENTUM},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    study = TinyStudy(tmp_path_factory.mktemp("study"))
    study.weights = tmp_path_factory.mktemp("weights") / "resnet18.weights"
    # Random ones: what matters is that they come from a file.
    save_weights(study.weights, build_model(small_recipe(), 6, 7)[0].backbone.state_dict())
    study.path = study.weights.with_name("features.npy")
    study.cost = write_features(study.path, FEATURES, study.test_pack, study.weights)
    study.features = Features.read(study.path)
    return study


def recipe_of(name, **changes):
    return small_recipe(**{**RECIPES[name], "backbone_trains": False, "epochs": 3, **changes})


def train(study, recipe, class_set="limited_classes", **options):
    features = study.features
    dataset = study.dataset(class_set)
    return train_run(
        recipe, dataset, features, features, study.weights, kind=HeadTrainer, **options
    )


def test_features_are_the_embeddings_of_an_untrained_run(study):
    """Would catch features of another transform, another mode of the network, or in another order."""
    recipe = small_recipe(epochs=0, head={"kind": "none"})
    run = train_run(recipe, study.dataset(), study.train_pack, study.test_pack, study.weights)
    assert study.features.values.shape == (36, 512)
    assert study.features.values.dtype == np.float32
    for role in ("gallery", "query"):
        stored = study.features.values[run.embeddings[f"{role}_image_ids"]]
        own = normalised(torch.from_numpy(stored))
        np.testing.assert_allclose(own, run.embeddings[f"{role}_embeddings"], atol=1e-6)
    assert study.cost["images"] == 36


def test_same_weights_give_the_same_bytes(study, tmp_path):
    """Would catch features that depend on random weights, or on what was computed before."""
    torch.manual_seed(99)
    write_features(tmp_path / "features.npy", FEATURES, study.test_pack, study.weights)
    assert (tmp_path / "features.npy").read_bytes() == study.path.read_bytes()


def trained_by_hand(study, recipe, dataset):
    """Head and loss after training on images, with a backbone in eval mode that gets no gradients."""
    rows = dataset.images("train", seen_only=True)
    labels = dataset.labels[rows]
    model, loss = build_model(recipe, dataset.num_seen, recipe.seed, study.weights)
    model.backbone.requires_grad_(False)
    optimizer, schedule = build_optimizer(recipe, model.head, loss)
    images = ImageBatches(study.test_pack, 32, torch.device("cpu"))
    for epoch in range(1, recipe.epochs + 1):
        torch.manual_seed(derived_seed(recipe.seed, "epoch", epoch))
        seed = derived_seed(recipe.seed, "order", epoch)
        for chosen in epoch_batches(
            labels, recipe.batch_size, seed, samples_per_class=recipe.samples_per_class
        ):
            model.train()
            model.backbone.eval()
            optimizer.zero_grad()
            batch = images.normalise(images.centre(torch.as_tensor(rows)[chosen]))
            loss(model(batch), torch.as_tensor(labels)[chosen]).backward()
            optimizer.step()
        schedule.step()
    return model, loss


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "bfloat16"])
def test_head_trains_as_if_the_backbone_stood_still(study, name):
    """Would catch another order, other first weights, or statistics of batches that move the backbone."""
    recipe = recipe_of(name)
    run = train(study, recipe)
    model, loss = trained_by_hand(study, recipe, study.dataset("limited_classes"))
    for one, other in ((run.model, model), (run.loss, loss)):
        states = one.state_dict(), other.state_dict()
        assert states[0].keys() == states[1].keys()
        for key, values in states[1].items():
            torch.testing.assert_close(states[0][key], values, rtol=1e-3, atol=1e-5, msg=key)


@pytest.mark.parametrize("name", RECIPES)
def test_run_repeats_and_goes_on_bit_for_bit(study, tmp_path, monkeypatch, name):
    """Would catch a part of the head's state that is not stored, or a number drawn anew."""
    monkeypatch.setattr(head_trainer, "SECONDS_BETWEEN_STATES", 0)
    recipe = recipe_of(name)
    undisturbed = train(study, recipe)
    torch.manual_seed(99)
    with pytest.raises(Killed):
        train(study, recipe, saved=Interrupted(tmp_path / "state.pt", "key", after=2))
    saved = SavedState(tmp_path / "state.pt", "key")
    assert [row["epoch"] for row in saved.curve] == [1, 2]
    # The backbone is in its file: the state of each epoch is small.
    assert not any(key.startswith("layer") for key in saved.content["trainer"]["model"])
    again = train(study, recipe, saved=saved)
    assert same(again.model.state_dict(), undisturbed.model.state_dict())
    assert same(again.loss.state_dict(), undisturbed.loss.state_dict())
    assert without_times(again.curve) == without_times(undisturbed.curve)
    assert [row["epoch"] for row in again.curve] == [1, 2, 3]
    for key, values in undisturbed.embeddings.items():
        np.testing.assert_array_equal(again.embeddings[key], values)
    other = train(study, recipe.changed(seed=43))
    assert not same(other.loss.state_dict(), undisturbed.loss.state_dict()) or not same(
        other.model.head.state_dict(), undisturbed.model.head.state_dict()
    )


def test_state_is_stored_when_it_is_due_and_at_the_end(study, tmp_path, monkeypatch):
    """Would catch a disk that is waited for after each epoch of some milliseconds, or no last state."""
    stored = []
    saved = SavedState(tmp_path / "state.pt", "key")
    saved.save = lambda content: stored.append(content["trainer"]["epoch"])
    train(study, recipe_of("epshn", epochs=5), saved=saved)
    assert stored == [5]
    monkeypatch.setattr(head_trainer, "SECONDS_BETWEEN_STATES", 0)
    saved.every = 2
    stored.clear()
    train(study, recipe_of("epshn", epochs=5), saved=saved)
    assert stored == [2, 4, 5]


@pytest.mark.parametrize("name", ["batchnorm", "probe"])
def test_stored_model_is_the_whole_model(study, name):
    """Would catch a model without its backbone, or embeddings of another model."""
    run = train(study, recipe_of(name))
    images = ImageBatches(study.test_pack, 32, torch.device("cpu"))
    for role in ("gallery", "query"):
        own = normalised(embed(run.model, images, run.embeddings[f"{role}_image_ids"], "float32"))
        np.testing.assert_allclose(own, run.embeddings[f"{role}_embeddings"], atol=1e-5)


def test_nothing_of_an_unseen_class_or_a_query_reaches_the_weights(study):
    """Would catch a limited head that trains on features of classes that it must not see."""
    dataset = study.dataset("limited_classes")
    hidden = np.setdiff1d(np.arange(36), dataset.images("train", seen_only=True))
    other = Features.read(study.path)
    other.values[hidden] = np.nan
    runs = []
    for features in (study.features, other):
        trainer = HeadTrainer(
            recipe_of("arcface"),
            features,
            dataset.images("train", seen_only=True),
            dataset.labels[dataset.images("train", seen_only=True)],
            dataset.num_seen,
            study.weights,
        )
        trainer.train_epoch()
        runs.append(trainer)
    assert same(runs[0].changing.state_dict(), runs[1].changing.state_dict())
    assert same(runs[0].loss.state_dict(), runs[1].loss.state_dict())


def test_untrained_head_gives_the_features(study):
    """Would catch a row of 0 epochs that needs packs, or reports a rate of images."""
    said = []
    run = train(
        study,
        recipe_of("probe", epochs=0),
        on_epoch=lambda row, rate: said.append(words_of(row, rate)),
    )
    stored = study.features.values[run.embeddings["query_image_ids"]]
    np.testing.assert_array_equal(
        run.embeddings["query_embeddings"], normalised(torch.from_numpy(stored))
    )
    assert len(said) == 1
    assert said[0].startswith("accuracy ")
    assert "images/s" not in said[0]


def test_curve_of_features_that_never_change_is_searched_once(study, monkeypatch):
    """Would catch a search of wide features after each epoch whose answer is known."""
    searches = []
    search = train_run.__globals__["nearest_neighbours"]
    monkeypatch.setitem(
        train_run.__globals__,
        "nearest_neighbours",
        lambda *given, **named: searches.append(1) or search(*given, **named),
    )
    run = train(study, recipe_of("probe", epochs=6))
    # The first point, and the last one, which comes from the stored embeddings.
    assert len(searches) == 2
    assert len({row["test_accuracy"] for row in run.curve}) == 1
    run = train(study, recipe_of("probe", epochs=6, eval_every=4))
    points = [row["test_accuracy"] for row in run.curve]
    assert [point is None for point in points] == [True, True, True, False, True, False]
    searches.clear()
    train(study, recipe_of("epshn", epochs=6))
    assert len(searches) == 6


def test_candidate_is_tried_on_features(study):
    """Would catch a selection that reads other images than its own, or the wrong rows of features."""
    images = pd.DataFrame({"image_id": range(36), "class_id": np.repeat(range(6), 6)})
    images["part"] = [
        HELD_OUT if row.class_id == 5 else VALIDATION if row.image_id % 6 == 0 else TRAIN
        for row in images.itertuples()
    ]
    features, recipe = study.features, recipe_of("epshn", epochs=0)
    scores, _ = try_recipe(
        recipe.changed(head={"kind": "none"}),
        images,
        features,
        features,
        study.weights,
        kind=HeadTrainer,
    )
    vectors = normalised(torch.from_numpy(features.values)).astype(np.float64)
    part, classes = images["part"].to_numpy(), images["class_id"].to_numpy()
    gallery = np.flatnonzero(part != VALIDATION)
    for name, one in (("validation", VALIDATION), ("held_out_classes", HELD_OUT)):
        hits = []
        for query in np.flatnonzero(part == one):
            others = gallery[gallery != query]
            nearest = others[np.argmax(vectors[others] @ vectors[query])]
            hits.append(classes[nearest] == classes[query])
        assert scores[f"precision_at_1_{name}"] == pytest.approx(np.mean(hits))
    trained, _ = try_recipe(
        recipe.changed(epochs=2), images, features, features, study.weights, kind=HeadTrainer
    )
    assert not trained["diverged"]
    assert trained["softmax_accuracy_validation"] is None


def test_candidate_of_a_classifier_has_its_softmax_accuracy(study):
    """Would catch a learning rate of a linear probe that is chosen by neighbours, which it cannot change."""
    images = pd.DataFrame({"image_id": range(36), "class_id": np.repeat(range(6), 6)})
    # The held-out class comes first, so that labels are not class ids.
    images["part"] = [
        HELD_OUT if row.class_id == 0 else VALIDATION if row.image_id % 6 < 2 else TRAIN
        for row in images.itertuples()
    ]
    seen = []

    class Watched(HeadTrainer):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(self)

    recipe, features = recipe_of("probe", epochs=10), study.features
    scores, _ = try_recipe(recipe, images, features, features, study.weights, kind=Watched)
    rows = np.flatnonzero(images["part"] == VALIDATION)
    with torch.inference_mode():
        logits = seen[0].loss.logits(torch.from_numpy(features.values[rows])).numpy()
    right = 1 + logits.argmax(axis=1) == images["class_id"].to_numpy()[rows]
    assert scores["softmax_accuracy_validation"] == pytest.approx(right.mean())
    assert right.mean() > 0


# Classifiers.


def test_probe_is_a_logistic_regression(study):
    """Would catch a linear probe that does not converge to the minimum of its loss."""
    dataset = study.dataset()
    rows, queries = dataset.images("train"), dataset.images("test")
    values = study.features.values
    n, decay = len(rows), 0.01
    # Standardised, or neither of both converges on features of a random network.
    features = Features.read(study.path)
    features.values[:] = (values - values[rows].mean(0)) / (values[rows].std(0) + 1e-6)
    # weight_decay · |w|² / 2 on the mean loss is |w|² / 2 with C = 1 / (n · weight_decay) on its sum.
    expected = LogisticRegression(C=1 / (n * decay), tol=1e-8, max_iter=5000)
    expected.fit(features.values[rows], dataset.labels[rows])
    recipe = recipe_of(
        "probe",
        epochs=400,
        batch_size=n,
        optimizer={"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": decay},
        schedule={"kind": "cosine"},
        eval_every=400,
    )
    run = train_run(recipe, dataset, features, features, study.weights, kind=HeadTrainer)
    with torch.inference_mode():
        logits = run.loss.logits(torch.from_numpy(features.values[queries]))
    np.testing.assert_allclose(
        logits.softmax(1).numpy(), expected.predict_proba(features.values[queries]), atol=0.01
    )


@pytest.mark.parametrize("kind", ["crossentropy", "normalized_softmax"])
def test_classifier_can_be_read_without_torch(study, kind):
    """Would catch class weights of another order, length or scale than those that gave the answers."""
    run = train(study, recipe_of("epshn", loss={"kind": kind}, optimizer=MOMENTUM))
    stored = run.embeddings
    weights, class_ids = stored["classifier_weights"], stored["classifier_class_ids"]
    assert class_ids.tolist() == [0, 1, 2, 3]
    assert weights.shape == (4, 8)
    assert {values.dtype for values in (weights, stored["query_norms"])} == {np.dtype("float32")}
    if kind == "crossentropy":
        embeddings = stored["query_embeddings"] * stored["query_norms"][:, None]
        scores = embeddings @ weights.T + stored["classifier_bias"]
    else:
        np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, atol=1e-6)
        scores = stored["classifier_scale"] * (stored["query_embeddings"] @ weights.T)
    with torch.inference_mode():
        raw = run.model.head.eval()(torch.from_numpy(study.features.values))
        expected = run.loss.logits(raw).numpy()
    np.testing.assert_allclose(scores, expected[stored["query_image_ids"]], atol=1e-4)
    np.testing.assert_array_equal(
        class_ids[scores.argmax(axis=1)], stored["query_softmax_class_ids"]
    )
    norms = np.linalg.norm(raw.numpy(), axis=1)[stored["gallery_image_ids"]]
    np.testing.assert_allclose(stored["gallery_norms"], norms, rtol=1e-5)


def test_only_classifiers_answer_by_softmax(study):
    """Would catch proxies that pass for a classifier, whose softmax would be evaluated."""
    stored = train(study, recipe_of("arcface")).embeddings
    assert [name for name in stored if "class" in name] == [
        "classifier_class_ids",
        "classifier_weights",
    ]


# What cannot be.


def test_losses_without_weights_are_known():
    """Would catch a new loss that trains nothing on features, and no sentence that says so."""
    found = []
    for kind in registry.kinds("loss"):
        loss = build_piece("loss", {"kind": kind}, 4, 8)
        if not list(loss.parameters()):
            found.append(kind)
    assert sorted(WEIGHTLESS) == sorted(found)
    assert {*PAIRS, "simclr"} == set(WEIGHTLESS)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"initializer": "scratch"}, "initializer", "whose weights are random"),
        ({"frozen_batchnorm": True}, "frozen_batchnorm", "would change nothing"),
        ({"trained_parts": {"kind": "last_blocks"}}, "trained_parts", "a part of the backbone"),
        ({"backbone_lr": 0.1}, "backbone_lr", "leave it out"),
        ({"augmentation": {"kind": "simclr"}}, "augmentation", "random views"),
        ({"loss": {"kind": "simclr"}}, "loss", "two random views"),
        ({"head": {"kind": "none"}}, "head", "nothing would train"),
        ({"selection": {"frozen_batchnorm": [True, False]}}, "frozen_batchnorm", "change nothing"),
        ({"selection": {"backbone_trains": [True, False]}}, "selection", "no key that can be"),
        ({"backbone_trains": "no"}, "backbone_trains", "true or false"),
    ],
)
def test_what_does_not_fit_is_said_before_any_job(changes, key, words):
    """Would catch a training on features that ignores a key, or that ends in an error of torch."""
    config = small()
    config["experiments"]["frozen"] = {
        "like": config["baseline"],
        "backbone_trains": False,
        **changes,
    }
    said = refusal(config)
    assert said.startswith(f"experiments.frozen.{key}")
    assert words in said


def test_initializer_is_trained_as_a_whole():
    """Would catch an initializer whose weights would be those that it starts from."""
    config = small()
    config["initializers"]["classifier"]["recipe"]["backbone_trains"] = False
    assert refusal(config) == (
        "initializers.classifier.recipe.backbone_trains: is a key of experiments only"
    )


def test_what_does_fit_is_planned():
    """Would catch a check that refuses untrained features, or a head that does train."""
    config = small()
    for name, entry in {
        "head": {},
        "probe": PROBE,
        "untrained_features": {"head": {"kind": "none"}, "epochs": 0},
    }.items():
        config["experiments"][name] = {
            "like": config["baseline"],
            "backbone_trains": False,
            **entry,
        }
    assert refusal(config) is None


def test_features_of_another_backbone_are_refused(study, tmp_path):
    """Would catch features of two backbones mixed, or a file that is unpickled."""
    path = tmp_path / "features.npy"
    np.save(path, np.zeros((36, 64), np.float32))
    dataset = study.dataset()
    rows = dataset.images("train")
    with pytest.raises(StudyError, match=r"64 dimensions, but those of resnet18 have 512"):
        HeadTrainer(
            recipe_of("epshn"), Features.read(path), rows, dataset.labels[rows], 6, study.weights
        )
    for value in (np.zeros(36, np.float32), np.zeros((36, 512)), np.array([{}], dtype=object)):
        np.save(path, value, allow_pickle=True)
        with pytest.raises(StudyError, match=r"features\.npy: not the features of a backbone"):
            Features.read(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(StudyError, match="not the features of a backbone"):
        Features.read(path)


def test_broken_weights_leave_no_features(study, tmp_path):
    """Would catch features of NaN that a training would end with a strange sentence on."""
    state = build_model(small_recipe(), 6, 7)[0].backbone.state_dict()
    state["conv1.weight"][:] = float("nan")
    save_weights(tmp_path / "broken.weights", state)
    with pytest.raises(StudyError, match="features of image 0 are not finite"):
        write_features(
            tmp_path / "features.npy", FEATURES, study.test_pack, tmp_path / "broken.weights"
        )
    assert not (tmp_path / "features.npy").exists()
