"""GPU code on a machine without a GPU: tensors are on the right device, and our code never waits."""

from collections import Counter
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from fake_gpu import FakeGPU, OnGPU
from helpers import TinyStudy, small_recipe, unit

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.cuda_graphs import GraphedModel
from dmlstudy.compute.embedding import embed
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import search
from dmlstudy.train.building import build_piece
from dmlstudy.train.initializer import pretrain
from dmlstudy.train.run import train_run
from dmlstudy.train.trainer import Trainer, training_batches

# One change of the recipe at a time.
RECIPES = {
    **{f"loss {kind}": {"loss": {"kind": kind}, "samples_per_class": 2} for kind in registry.kinds("loss")},
    **{f"head {kind}": {"head": {"kind": kind}} for kind in registry.kinds("head")},
    **{f"optimizer {kind}": {"optimizer": {"kind": kind}} for kind in registry.kinds("optimizer")},
    **{f"schedule {kind}": {"schedule": {"kind": kind}} for kind in registry.kinds("schedule")},
    **{f"augmentation {kind}": {"augmentation": {"kind": kind}} for kind in registry.kinds("augmentation")},
    "SimCLR": {
        "augmentation": {"kind": "simclr"},
        "loss": {"kind": "simclr"},
        "head": {"kind": "simclr_projection"},
    },
    "frozen BatchNorm": {"frozen_batchnorm": True},
    "bfloat16": {"precision": "bfloat16"},
    "resnet50": {"backbone": "resnet50"},
}  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("study"))


def trainer(study, **changes):
    dataset = study.dataset()
    rows = dataset.images("train")
    recipe = small_recipe(device="cuda", epochs=1, **changes)
    return Trainer(recipe, study.train_pack, rows, dataset.labels[rows], dataset.num_seen)


def test_the_gpu_that_is_not_there_tells_devices_apart():
    """Would catch a fake GPU that allows what a real one refuses, which would weaken every test below."""
    with FakeGPU() as gpu:
        there, here = torch.arange(6.0).to("cuda", non_blocking=True), torch.arange(6.0)
        assert (there.device.type, there.is_cuda) == ("cuda", True)
        assert not gpu.waits
        with pytest.raises(RuntimeError, match="one device"):
            there + here
        with pytest.raises(RuntimeError, match="one device"):
            there[here > 2] = here[:3]
        assert (there + torch.tensor(1.0)).value.tolist() == (here + 1).tolist()
        there[there > 4] = 0.0
        assert not gpu.waits
        for wait in (
            lambda: float(there.sum()),
            lambda: there.cpu(),
            lambda: here.to("cuda"),
            lambda: there[there > 2],
            lambda: there[torch.tensor([1, 2])],
            lambda: there.nonzero(),
            lambda: torch.tensor([1.0, 2.0], device="cuda"),
        ):
            gpu.waits.clear()
            wait()
            assert [one.package for one in gpu.waits] == [__name__]


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_an_epoch_is_left_to_the_gpu(study, changes):
    """Would catch tensors that stay on the host, or a step that waits for its loss."""
    with FakeGPU() as gpu:
        run = trainer(study, **changes)
        # Distances and losses are products of float32, not of TF32.
        assert torch.get_float32_matmul_precision() == "highest"
        gpu.waits.clear()
        row = run.train_epoch()
        # The fixed-shape EPSHN uses distances of the library, and nothing that waits.
        ours = ("dmlstudy",) if "loss" in changes else ("dmlstudy", "pytorch_metric_learning")
        waits = Counter(wait for wait in gpu.waits if wait.package in ours)
        # Its loss, and whether the weights are finite.
        assert waits == {("aten._local_scalar_dense.default", "dmlstudy"): 2}
        assert np.isfinite(row["train_loss"])
        for module in (run.model, run.loss):
            assert all(isinstance(one, OnGPU) for one in module.state_dict().values())
        assert isinstance(embed(run.model, run.images, range(3), run.recipe.precision), OnGPU)


@pytest.mark.parametrize("kind", registry.kinds("augmentation"))
@pytest.mark.parametrize("room", [2**36, 0], ids=["pack on the GPU", "pack on the host"])
def test_batches_are_the_processors(study, kind, room, monkeypatch):
    """Would catch crops that depend on the device, or on whether the pack fits into its memory."""
    dataset = study.dataset()
    rows = dataset.images("train")
    recipe = small_recipe()

    def batches(device):
        images = ImageBatches(study.train_pack, recipe.image_size, torch.device(device))
        augment = build_piece("augmentation", {"kind": kind}, images)
        labels = dataset.labels[rows]
        return list(training_batches(augment, rows, labels, recipe, 42, 1, images.device))

    expected = batches("cpu")
    with FakeGPU() as gpu:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (room, 2**36))
        found = batches("cuda")
    ours = [wait for wait in gpu.waits if wait.package == "dmlstudy"]
    # Blocking copies: pixels, layout, mean and deviation. Crops of a pack on the host are asynchronous.
    assert len(ours) == (4 if room else 2)
    for ones, others in zip(found, expected, strict=True):
        for one, other in zip(ones, others, strict=True):
            torch.testing.assert_close(one.value, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("room", [2**36, 0], ids=["pack on the GPU", "pack on the host"])
def test_a_run_goes_through(study, room, monkeypatch):
    """Would catch embeddings, logits or costs read from the wrong device."""
    # The fake GPU does not exist in other threads.
    for module in ("train.trainer", "compute.embedding"):
        monkeypatch.setattr(f"dmlstudy.{module}.made_ahead", lambda batches, device: batches)
    with FakeGPU():
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (room, 2**36))
        recipe = small_recipe(device="cuda", epochs=2, eval_every=1, loss={"kind": "arcface"})
        packs = study.train_pack, study.test_pack
        run = train_run(recipe, study.dataset("limited_classes"), *packs)
        _, _, check, _ = pretrain(small_recipe(device="cuda", epochs=1), study.dataset(), *packs)
    assert [row["epoch"] for row in run.curve] == [1, 2]
    assert all(0 <= row["test_accuracy"] <= 1 for row in run.curve)
    assert all(isinstance(values, np.ndarray) for values in run.embeddings.values())
    assert run.cost["peak_device_memory_mb"] is not None
    assert check["images"]


def test_a_training_goes_on(study):
    """Would catch a stored state whose optimizer or generator comes back on the wrong device."""
    with FakeGPU():
        first, second = trainer(study), trainer(study)
        first.train_epoch()
        state = torch.utils._pytree.tree_map(
            lambda leaf: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf, first.state_dict()
        )
        second.load_state_dict(state)
        assert second.epoch == 1
        second.train_epoch()


@pytest.fixture
def card(monkeypatch):
    """Records what FAISS would do with a GPU: {"indices", "bytes"}."""
    found = {"indices": 0, "bytes": []}

    class Resources:
        setTempMemory = staticmethod(found["bytes"].append)

    def to_gpu(resources, device, index):
        assert device == 0
        found["indices"] += 1
        return index

    search._gpus.cache_clear()
    search._gpu_resources.cache_clear()
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1, raising=False)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", to_gpu, raising=False)
    yield found
    search._gpus.cache_clear()
    search._gpu_resources.cache_clear()


def test_only_a_job_with_a_gpu_searches_on_it(card):
    """Would catch jobs without a GPU slot that use the memory of a card."""
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, 5, 8), unit(rng, 40, 8)
    expected = search.nearest_neighbours(queries, gallery, 3)
    assert not card["indices"]
    found = search.nearest_neighbours(queries, gallery, 3, on_gpu=True)
    assert card["indices"] == 1
    assert card["bytes"] == [search.GPU_MEMORY]
    np.testing.assert_array_equal(found[1], expected[1])
    search.nearest_neighbours(queries, gallery, 3, on_gpu=True)
    assert (card["indices"], len(card["bytes"])) == (2, 1)


@pytest.mark.parametrize("where", ["index", "search"])
def test_a_full_card_ends_no_training(card, monkeypatch, caplog, where):
    """Would catch a training that fails because FAISS finds no memory on the card."""

    def full(*arguments):
        raise RuntimeError("out of memory")

    answer = full if where == "index" else lambda *_: SimpleNamespace(search=full)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", answer)
    rng = np.random.default_rng(0)
    queries, gallery = unit(rng, 5, 8), unit(rng, 40, 8)
    found = search.nearest_neighbours(queries, gallery, 3, on_gpu=True)
    np.testing.assert_array_equal(found[1], search.nearest_neighbours(queries, gallery, 3)[1])
    assert caplog.text.count("searches on the CPU: out of memory") == 1


def test_a_training_searches_where_it_trains(study, card):
    """Would catch an evaluation on the CPU in every epoch, or a CPU job that uses a card."""
    packs = study.train_pack, study.test_pack
    train_run(small_recipe(epochs=1), study.dataset(), *packs)
    pretrain(small_recipe(epochs=1), study.dataset(), *packs)
    assert not card["indices"]
    with FakeGPU():
        train_run(small_recipe(epochs=1, device="cuda"), study.dataset(), *packs)
        assert card["indices"] == 1
        pretrain(small_recipe(epochs=1, device="cuda"), study.dataset(), *packs)
    assert card["indices"] == 3


class Graphs:
    """Replaces the function of CUDA: same warm-up steps, one shape, and it writes to the memory of the device."""

    def __init__(self):
        self.replays = 0

    def make(self, module, samples):
        for _ in range(3):
            found = module(*samples)
            gradients = [one for one in module.parameters() if one.requires_grad]
            torch.autograd.grad(found, gradients, torch.ones_like(found))

        def replay(images):
            assert images.shape == samples[0].shape
            self.replays += 1
            return module(images)

        return replay


@pytest.mark.parametrize(
    ("free", "changes", "expected"),
    [(2**36, {}, True), (2**36, {"cuda_graphs": False}, False), (2**30, {}, False)],
    ids=["default", "switched off", "little memory"],
)
def test_graphs_are_made_where_there_is_room(study, monkeypatch, caplog, free, changes, expected):
    """Would catch an option that is ignored, or graphs that take the memory of the training."""
    caplog.set_level("INFO")
    with FakeGPU():
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free, 2**36))
        run = trainer(study, batch_size=12, **changes)
    assert isinstance(run.trained_model, GraphedModel) == expected
    assert ("not enough GPU memory" in caplog.text) == (free == 2**30)


def test_a_model_that_cannot_be_captured_is_told(study, monkeypatch):
    """Would catch a head whose training fails with a CUDA error."""

    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    with FakeGPU():
        monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
        with pytest.raises(
            StudyError, match=r"protocol\.cuda_graphs: .*not permitted.* set it to false"
        ):
            trainer(study)


@pytest.mark.parametrize(
    "changes",
    [
        {"head": {"kind": "linear"}},
        {"head": {"kind": "skip_connection"}},
        {"trained_parts": {"kind": "last_blocks"}, "clip_gradients": 0.1},
        {"trained_parts": {"kind": "normalisation"}, "optimizer": {"kind": "adamw"}},
        {"trained_parts": {"kind": "lora"}, "backbone": "timm/test_vit", "backbone_lr": 0.1},
    ],
    ids=str,
)
def test_graphs_leave_the_training_as_it_is(study, monkeypatch, changes):
    """Would catch graphs that change BatchNorm's statistics or random numbers, or lose the last batch."""
    graphs = Graphs()
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphs.make)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: None)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    dataset = study.dataset()
    rows = dataset.images("train")
    found = []
    for graphed in (False, True):
        recipe = small_recipe(epochs=2, batch_size=len(rows) // 2 - 1, **changes)
        run = Trainer(recipe, study.train_pack, rows, dataset.labels[rows], dataset.num_seen)
        torch.manual_seed(1)
        if graphed:
            run.trained_model = run.graphed(run.model)
        drawn = torch.rand(3)
        run.train_epoch()
        run.train_epoch()
        found.append({**run.model.state_dict(), "drawn": drawn})
    # The last of the three batches of each epoch is smaller.
    assert graphs.replays == 4
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
