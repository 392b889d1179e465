"""Training repeats bit for bit, loses no image, and lets nothing reach the weights that must not."""

import itertools
import math
import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import TinyStudy, small_recipe, unit
from torchvision.transforms import CenterCrop

from dmlstudy.compute import memory
from dmlstudy.compute.batches import ImageBatches, epoch_batches
from dmlstudy.compute.embedding import embed
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.data.pack import Pack
from dmlstudy.train import trainer as trainer_module
from dmlstudy.train.building import build_model, build_piece
from dmlstudy.train.initializer import leave_one_out_precision_at_1, pretrain
from dmlstudy.train.run import train_run
from dmlstudy.train.trainer import Trainer, training_batches


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("study"))


def train(study, class_set="all_classes", on_epoch=None, weights=None, **changes):
    return train_run(
        small_recipe(**changes),
        study.dataset(class_set),
        study.train_pack,
        study.test_pack,
        weights,
        on_epoch,
    )


@pytest.fixture(scope="module")
def limited(study):
    """A run of the limited classes; the other runs of this file are compared with it."""
    return train(study, "limited_classes")


def same_weights(one, other):
    states = [module.state_dict() for module in (one, other)]
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def without_times(curve):
    return [{key: row[key] for key in row if key != "seconds"} for row in curve]


# The same again.


def test_same_seed_gives_the_same_run(study, limited):
    """Would catch a number drawn from a generator that is not seeded, or from one that remembers."""
    np.random.seed(99)
    torch.manual_seed(99)
    again = train(study, "limited_classes")
    assert same_weights(again.model, limited.model)
    assert without_times(again.curve) == without_times(limited.curve)
    assert again.embeddings.keys() == limited.embeddings.keys()
    for key, values in again.embeddings.items():
        np.testing.assert_array_equal(values, limited.embeddings[key])


@pytest.mark.parametrize("kind", [kind for kind in registry.kinds("loss") if kind != "simclr"])
def test_every_loss_repeats(study, kind):
    """Would catch a loss that needs an operation which does not give the same sums twice."""
    dataset = study.dataset()
    rows = dataset.images("train")
    recipe = small_recipe(loss={"kind": kind}, samples_per_class=2, loss_lr=0.1, epochs=1)
    runs = []
    for _ in range(2):
        trainer = Trainer(recipe, study.train_pack, rows, dataset.labels[rows], 6)
        before = [weight.detach().clone() for weight in trainer.loss.parameters()]
        curve = [trainer.train_epoch()]
        after = list(trainer.loss.parameters())
        assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
        runs.append((trainer, curve))
    for part in ("model", "loss"):
        assert same_weights(*(getattr(trainer, part) for trainer, _ in runs))
    assert without_times(runs[0][1]) == without_times(runs[1][1])
    assert runs[0][1][0]["train_loss"] > 0


def test_bfloat16_repeats_and_is_another_precision(study):
    """Would catch sums whose order is left to chance, or a precision that nobody reads."""
    runs = [train(study, epochs=1, precision="bfloat16") for _ in range(2)]
    assert same_weights(*(run.model for run in runs))
    assert without_times(runs[0].curve) == without_times(runs[1].curve)
    for key, values in runs[0].embeddings.items():
        np.testing.assert_array_equal(values, runs[1].embeddings[key])
    plain = train(study, epochs=1)
    assert not same_weights(plain.model, runs[0].model)
    assert plain.curve[0]["train_loss"] == pytest.approx(runs[0].curve[0]["train_loss"], rel=0.3)


@pytest.mark.parametrize(
    ("precision", "native", "warned"),
    [("bfloat16", False, True), ("bfloat16", True, False), ("auto", False, False)],
)
def test_emulated_bfloat16_is_told(study, monkeypatch, caplog, precision, native, warned):
    """Would catch a training that takes many times as long and does not say why."""
    monkeypatch.setattr("dmlstudy.compute.devices.has_native_bfloat16", lambda device: native)
    rows = study.dataset().images("train")
    Trainer(small_recipe(precision=precision, epochs=0), study.train_pack, rows, rows * 0, 1)
    assert ("protocol.precision" in caplog.text) == warned


def test_losses_are_taken_in_float32(study, monkeypatch):
    """Would catch distances of bfloat16, which has three digits, under an autocast that goes on."""
    seen = []

    def watched(loss):
        forward = loss.forward

        def inner(embeddings, labels):
            seen.append((embeddings.dtype, torch.is_autocast_enabled("cpu")))
            return forward(embeddings, labels)

        loss.forward = inner

    dataset = study.dataset()
    rows = dataset.images("train")
    trainer = Trainer(
        small_recipe(precision="bfloat16"), study.train_pack, rows, dataset.labels[rows], 6
    )
    watched(trainer.loss)
    trainer.train_epoch()
    assert set(seen) == {(torch.float32, False)}


def test_batches_that_are_made_ahead_give_the_same_run(study, limited, monkeypatch):
    """Would catch a batch that is left out or overtaken where a GPU is too small for the pack."""
    monkeypatch.setattr(ImageBatches, "cut_on_host", True)
    again = train(study, "limited_classes")
    assert same_weights(again.model, limited.model)
    assert without_times(again.curve) == without_times(limited.curve)
    for key, values in again.embeddings.items():
        np.testing.assert_array_equal(values, limited.embeddings[key])


def test_other_seed_gives_another_run(study, limited):
    """Would catch a seed that nobody reads."""
    other = train(study, "limited_classes", seed=43, epochs=1)
    assert not same_weights(other.model, limited.model)
    assert other.curve[0]["train_loss"] != limited.curve[0]["train_loss"]


def test_seed_draws_weights_order_and_crops(study):
    """Would catch a purpose whose numbers are the same for every seed, or for every epoch."""
    weights = [build_model(small_recipe(), 4, seed)[0].head.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    images = ImageBatches(study.train_pack, 32, torch.device("cpu"))
    augment = build_piece("augmentation", {"kind": "crop_flip"}, images)
    rows, labels = np.arange(16), np.arange(16)

    def first(seed, epoch):
        drawn = training_batches(augment, rows, labels, small_recipe(), seed, epoch, images.device)
        return next(iter(drawn))

    images, order = first(1, 1)
    assert torch.equal(first(1, 1)[0], images)
    for seed, epoch in ((2, 1), (1, 2)):
        others, other_order = first(seed, epoch)
        assert order.tolist() != other_order.tolist()
        assert not torch.equal(others, images)


@pytest.mark.parametrize("kind", ["crop_flip", "simclr"])
def test_augmentation_draws_from_its_generator_only(study, kind):
    """Would catch crops that depend on, or disturb, numbers drawn elsewhere."""
    images = ImageBatches(study.train_pack, 32, torch.device("cpu"))
    augment = build_piece("augmentation", {"kind": kind}, images)
    rows = torch.arange(4)
    drawn = []
    for other in (0, 1):
        np.random.seed(other)
        torch.manual_seed(other)
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        drawn.append(augment(rows, torch.Generator().manual_seed(7)))
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert torch.equal(*drawn)
    assert not torch.equal(augment(rows, torch.Generator().manual_seed(8)), drawn[0])


def test_augmentations_give_their_views(study):
    """Would catch two views of SimCLR that are one, or a random crop where none is asked for."""
    images = ImageBatches(study.train_pack, 32, torch.device("cpu"))
    rows = torch.tensor([5, 2])
    draw = torch.Generator().manual_seed(0)
    plain = build_piece("augmentation", {"kind": "none"}, images)(rows, draw)
    assert torch.equal(plain, images.normalise(images.centre(rows)))
    views = build_piece("augmentation", {"kind": "simclr"}, images)(rows, draw)
    assert views.shape == (4, 3, 32, 32)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(views, 2))


# Order.


@pytest.mark.parametrize("count", [2, 3, 15, 16, 17, 24, 25, 31])
def test_no_image_is_lost_or_doubled(count):
    """Would catch a last batch that is dropped, or one image alone, which BatchNorm cannot take."""
    batches = epoch_batches(np.zeros(count, dtype=np.int64), 8, seed=3)
    assert sorted(torch.cat(batches).tolist()) == list(range(count))
    sizes = [len(batch) for batch in batches]
    if count % 8 == 1:
        assert sizes == [8] * (count // 8 - 1) + [9]
    else:
        assert sizes == [8] * (count // 8) + [count % 8] * (count % 8 > 0)


def test_order_is_shuffled_by_its_seed():
    """Would catch batches of one class each, as the images lie in the manifest."""
    orders = [torch.cat(epoch_batches(np.zeros(50), 8, seed)).tolist() for seed in (1, 1, 2)]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != sorted(orders[0])


@pytest.mark.parametrize("samples", [None, 2])
def test_one_image_is_refused(samples):
    """Would catch a training on a single image, which fails deep inside BatchNorm."""
    with pytest.raises(ValueError, match="at least two images, found 1"):
        epoch_batches(np.zeros(1), 8, seed=0, samples_per_class=samples)


@pytest.mark.parametrize("samples", [2, 4])
def test_batches_hold_so_many_of_each_class(samples):
    """Would catch positions taken for labels, or a batch without positive pairs."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 10))
    state = np.random.get_state()[1].copy()
    batches = epoch_batches(labels, 8, seed=5, samples_per_class=samples)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert len(batches) == 60 // 8
    for batch in batches:
        counts = np.bincount(labels[batch.numpy()])
        assert set(counts[counts > 0]) == {samples}
        assert len(set(batch.tolist())) == 8
    again = epoch_batches(labels, 8, seed=5, samples_per_class=samples)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


# The curve.


def test_curve_has_a_point_at_the_last_epoch(study):
    """Would catch a last epoch without accuracy where eval_every does not divide the epochs."""
    seen = []
    run = train(
        study,
        epochs=3,
        eval_every=2,
        head={"kind": "none"},
        on_epoch=lambda row, rate: seen.append((row["epoch"], rate > 0)),
    )
    assert [row["epoch"] for row in run.curve] == [1, 2, 3]
    assert [row["test_accuracy"] is None for row in run.curve] == [True, False, False]
    assert all(math.isfinite(row["train_loss"]) for row in run.curve)
    assert seen == [(1, True), (2, True), (3, True)]


def test_watching_does_not_change_a_run(study, limited):
    """Would catch an evaluation that trains, or that leaves the model in eval mode."""
    run = train(study, "limited_classes", eval_every=5)
    assert same_weights(run.model, limited.model)
    assert run.curve[0]["test_accuracy"] is None
    assert run.curve[1]["test_accuracy"] == limited.curve[1]["test_accuracy"]


def test_dropout_follows_seed_and_epoch(study):
    """Would catch dropout that depends on what was drawn before, as after a break."""
    head = {"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.5}
    plain = train(study, head=head, eval_every=5)
    disturbed = train(study, head=head, eval_every=5, on_epoch=lambda row, rate: torch.rand(3))
    assert same_weights(plain.model, disturbed.model)


@pytest.mark.parametrize("training", [True, False])
def test_embedding_leaves_the_model_as_it_was(study, training):
    """Would catch a model left in eval mode, or statistics moved by test images."""
    model = build_model(small_recipe(head={"kind": "batchnorm", "embedding_dim": 8}), 6, 1)[0]
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = ImageBatches(study.test_pack, 32, torch.device("cpu"))
    first = embed(model, images, [0, 1, 2], "float32")
    assert {module.training for module in model.modules()} == {training}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    # In eval mode an image's embedding does not depend on its neighbours in the batch.
    torch.testing.assert_close(embed(model, images, [2], "float32"), first[2:], atol=1e-4, rtol=0)


def known_accuracy_by_hand(dataset, embeddings):
    """precision@1 of the seen classes' queries among their gallery, pair by pair."""
    hits = []
    for image, query in zip(
        embeddings["query_image_ids"], embeddings["query_embeddings"], strict=True
    ):
        if not dataset.seen[dataset.class_ids[image]]:
            continue
        best = max(
            (float(other.astype(float) @ query.astype(float)), -int(neighbour))
            for neighbour, other in zip(
                embeddings["gallery_image_ids"], embeddings["gallery_embeddings"], strict=True
            )
            if dataset.seen[dataset.class_ids[neighbour]]
        )
        hits.append(dataset.class_ids[-best[1]] == dataset.class_ids[image])
    return sum(hits) / len(hits)


def test_last_point_equals_precision_of_known_classes(study, limited):
    """Would catch unseen classes in the curve of a limited model, as queries or in the gallery."""
    dataset = study.dataset("limited_classes")
    expected = known_accuracy_by_hand(dataset, limited.embeddings)
    assert limited.curve[-1]["test_accuracy"] == pytest.approx(expected, abs=1e-12)


def test_embeddings_are_of_all_images(study, limited):
    """Would catch unseen classes left out of the gallery, or embeddings that are not normalised."""
    parts = study.dataset().parts
    for part, name in (("train", "gallery"), ("test", "query")):
        ids = limited.embeddings[f"{name}_image_ids"]
        assert ids.tolist() == np.flatnonzero(parts == part).tolist()
        vectors = limited.embeddings[f"{name}_embeddings"]
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_embeddings_are_the_models_of_test_crops(study, limited):
    """Would catch embeddings of training crops, of training mode, or of other images."""
    ids = limited.embeddings["query_image_ids"]
    crops = torch.stack(
        [
            CenterCrop(32)(torch.from_numpy(study.test_pack.image(row).copy()).permute(2, 0, 1))
            for row in ids
        ]
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (crops.permute(0, 2, 3, 1) / 255 - mean) / std
    with torch.no_grad():
        expected = limited.model.eval()(images.permute(0, 3, 1, 2))
    expected = torch.nn.functional.normalize(expected).numpy()
    np.testing.assert_allclose(limited.embeddings["query_embeddings"], expected, atol=1e-4)


def test_untrained_run(study):
    """Would catch a step of training in a row that is called untrained."""
    run = train(study, epochs=0, head={"kind": "none"}, loss={"kind": "crossentropy"})
    assert [row["epoch"] for row in run.curve] == [0]
    assert run.curve[0]["train_loss"] is None
    expected = known_accuracy_by_hand(study.dataset(), run.embeddings)
    assert run.curve[0]["test_accuracy"] == pytest.approx(expected, abs=1e-12)
    assert run.embeddings["query_embeddings"].shape[1] == 512
    assert "query_softmax_class_ids" not in run.embeddings
    fresh = build_model(small_recipe(head={"kind": "none"}, loss={"kind": "crossentropy"}), 6, 42)[
        0
    ]
    assert same_weights(run.model, fresh)


def test_run_starts_from_given_weights(study, tmp_path):
    """Would catch an initializer that is loaded into nothing."""
    torch.manual_seed(1)
    given = build_model(small_recipe(head={"kind": "none"}), 6, seed=7)[0].backbone
    torch.save(given.state_dict(), tmp_path / "weights.pt")
    recipe = {"epochs": 0, "head": {"kind": "none"}}
    run = train(study, weights=tmp_path / "weights.pt", **recipe)
    assert same_weights(run.model.backbone, given)
    assert not same_weights(train(study, **recipe).model.backbone, given)


def test_softmax_answers_are_class_ids(study):
    """Would catch labels where class ids are meant, which differ once seen classes are drawn."""
    dataset = study.dataset("limited_classes")
    # Seen classes 1, 2, 4 and 5: labels 0 to 3.
    dataset.seen = np.array([False, True, True, False, True, True])
    labels = np.array([-1, 0, 1, -1, 2, 3])
    dataset.labels = labels[dataset.class_ids]
    run = train_run(
        small_recipe(
            epochs=2,
            head={"kind": "none"},
            loss={"kind": "crossentropy", "label_smoothing": 0.0},
            optimizer={"kind": "adam", "lr": 0.001},
        ),
        dataset,
        study.train_pack,
        study.test_pack,
    )
    # A tiny network learns too little for its accuracy to tell: the same logits by hand.
    images = ImageBatches(study.test_pack, 32, torch.device("cpu"))
    embeddings = embed(run.model, images, run.embeddings["query_image_ids"], "float32")
    with torch.inference_mode():
        labels = run.loss.logits(embeddings).argmax(dim=1).tolist()
    expected = [(1, 2, 4, 5)[label] for label in labels]
    assert run.embeddings["query_softmax_class_ids"].tolist() == expected
    # Unseen classes lie between the seen ones here, so that positions cannot stand for images.
    expected = known_accuracy_by_hand(dataset, run.embeddings)
    assert run.curve[-1]["test_accuracy"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("loss", ["epshn", "crossentropy"])
def test_diverging_training_is_explained(study, loss):
    """Would catch weights of NaN that end up in a table as a poor result."""
    recipe = small_recipe(loss={"kind": loss})
    recipe = recipe.changed(optimizer={**recipe.optimizer, "lr": 1e20})
    with pytest.raises(StudyError, match=r"loss became .* in epoch 1; .*optimizer\.lr"):
        train_run(recipe, study.dataset(), study.train_pack, study.test_pack)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_go_astray_in_the_last_step_are_told(study, value):
    """Would catch a model whose loss was fine before a step that ruined one of its weights."""
    dataset = study.dataset()
    rows = dataset.images("train")
    trainer = Trainer(small_recipe(), study.train_pack, rows, dataset.labels[rows], 6)
    step = trainer.optimizer.step

    def ruinous(*arguments):
        step(*arguments)
        with torch.no_grad():
            trainer.model.backbone.layer2[0].conv1.weight[3, 2, 1, 0] = value

    trainer.recipe = trainer.recipe.changed(batch_size=len(rows))
    trainer.optimizer.step = ruinous
    with pytest.raises(StudyError, match="loss became inf in epoch 1"):
        trainer.train_epoch()


# Memory.


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory"
)
def test_kept_memory_is_used_again():
    """Would catch parameters that glibc does not understand, of which it says nothing."""
    program = """if True:
        import resource, sys
        import torch
        from dmlstudy.compute.devices import keep_freed_memory

        if sys.argv[1] == "keep":
            keep_freed_memory()
        for step in range(23):
            if step == 20:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.empty(2**24).fill_(1)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    environment = {**os.environ, "PYTHONPATH": str(PROGRAMS), "THP_MEM_ALLOC_ENABLE": "0"}
    faults = [
        int(subprocess.check_output([sys.executable, "-c", program, word], env=environment))
        for word in ("return", "keep")
    ]
    # Three times 64 MB, page by page, against nothing.
    assert faults[0] > 20 * faults[1] + 1000


def test_only_small_trainings_keep_freed_memory(study, monkeypatch):
    """Would catch a training at CUB's size that takes twice the memory."""
    kept = []
    monkeypatch.setattr(trainer_module, "keep_freed_memory", lambda: kept.append(True))
    rows = study.dataset().images("train")
    for changes in ({}, {"batch_size": 128, "image_size": 224, "epochs": 0}):
        Trainer(small_recipe(**changes), study.train_pack, rows, rows * 0, 1)
    assert kept == [True]


def test_small_images_are_not_measured(monkeypatch):
    """Would catch 0.4 s in every small training, and a bound that a backbone exceeds."""
    for name in ("resnet18", "resnet50", "timm/test_vit", "timm/test_convnext"):
        found = memory.footprint(name, 64)
        assert max(memory.BESIDE * found.kept, found.live) <= memory.BYTES_PER_PIXEL * 64**2
    recipe = small_recipe(batch_size=64, image_size=32)
    assert memory.activation_megabytes(recipe) <= 1600
    monkeypatch.setattr(memory, "activation_megabytes", lambda recipe: pytest.fail("measured"))
    assert memory.takes_at_most(recipe, 1600)


# What must not reach the weights.


def changed(pack, rows, seed=0):
    """A pack in which the pixels of some images are other noise."""
    other = Pack.__new__(Pack)
    other.__dict__.update(pack.__dict__)
    other.pixels = np.array(pack.pixels)
    rng = np.random.default_rng(seed)
    for row in rows:
        image = other.image(row)
        image[...] = rng.integers(0, 256, image.shape)
    return other


def with_hidden_images_changed(study, dataset):
    """Packs and data set in which everything that a training must not know is another."""
    known = dataset.images("train", seen_only=True)
    hidden = np.setdiff1d(np.arange(len(dataset.parts)), known)
    dataset.labels = dataset.labels.copy()
    dataset.class_ids = dataset.class_ids.copy()
    tests = np.flatnonzero(dataset.parts == "test")
    dataset.labels[tests] = np.roll(dataset.labels[tests], 3)
    dataset.class_ids[hidden] = np.roll(dataset.class_ids[hidden], 1)
    return changed(study.train_pack, hidden), changed(study.test_pack, hidden), dataset


RECIPES = {
    "classifier": {"head": {"kind": "none"}, "loss": {"kind": "crossentropy"}},
    "simclr": {
        "head": {"kind": "simclr_projection"},
        "loss": {"kind": "simclr"},
        "augmentation": {"kind": "simclr"},
    },
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_initializers_know_training_images_of_seen_classes_only(study, recipe):
    """Would catch a test image, or an image of an unseen class, in an initializer."""
    recipe = small_recipe(**RECIPES[recipe], epochs=1)
    dataset = study.dataset("limited_classes")
    packs = study.train_pack, study.test_pack
    backbone, curve, check, _ = pretrain(recipe, dataset, *packs)
    assert check["images"] == len(dataset.images("train", seen_only=True))
    assert check["classes"] == 4
    train_pack, test_pack, other = with_hidden_images_changed(
        study, study.dataset("limited_classes")
    )
    again = pretrain(recipe, other, train_pack, test_pack)
    assert same_weights(again[0], backbone)
    assert without_times(again[1]) == without_times(curve)
    assert again[2] == check
    one = dataset.images("train", seen_only=True)[[3]]
    noticed = pretrain(recipe, dataset, changed(study.train_pack, one), study.test_pack)
    assert not same_weights(noticed[0], backbone)


def test_runs_know_training_images_of_seen_classes_only(study, limited):
    """Would catch a test image, or an image of an unseen class, in a limited model."""
    train_pack, test_pack, other = with_hidden_images_changed(
        study, study.dataset("limited_classes")
    )
    again = train_run(small_recipe(), other, train_pack, test_pack)
    assert same_weights(again.model, limited.model)
    assert [row["train_loss"] for row in again.curve] == [
        row["train_loss"] for row in limited.curve
    ]
    one = other.images("train", seen_only=True)[[3]]
    noticed = train_run(small_recipe(), other, changed(study.train_pack, one), test_pack)
    assert not same_weights(noticed.model, limited.model)


# Leave one out.


def leave_one_out_by_hand(embeddings, labels):
    hits = 0
    for i, one in enumerate(embeddings.astype(float)):
        others = [j for j in range(len(embeddings)) if j != i]
        nearest = max(others, key=lambda j: (float(embeddings[j].astype(float) @ one), -j))
        hits += labels[nearest] == labels[i]
    return hits / len(embeddings)


@pytest.mark.parametrize("kind", ["random", "duplicates", "all equal", "two"])
def test_leave_one_out(kind):
    """Would catch an image that finds itself, also where it has exact duplicates."""
    rng = np.random.default_rng(8)
    embeddings = unit(rng, 60, 6)
    labels = rng.integers(0, 4, 60)
    if kind == "duplicates":
        embeddings = embeddings[rng.integers(0, 15, 60)]
    elif kind == "all equal":
        embeddings = np.repeat(embeddings[:1], 60, axis=0)
    elif kind == "two":
        embeddings, labels = embeddings[:2], np.array([1, 1])
    value = leave_one_out_precision_at_1(embeddings, labels, 1)
    assert value == pytest.approx(leave_one_out_by_hand(embeddings, labels), abs=1e-12)
