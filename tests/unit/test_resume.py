"""A training that goes on from stored state ends as an undisturbed one, or starts from the beginning."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import TinyStudy, small_recipe

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.core.ownership import sole_owner
from dmlstudy.evaluate.held_out import HELD_OUT, TRAIN, VALIDATION
from dmlstudy.train import resume
from dmlstudy.train.candidate import try_recipe
from dmlstudy.train.initializer import pretrain
from dmlstudy.train.resume import SavedState, training_key
from dmlstudy.train.run import train_run
from dmlstudy.train.trainer import Trainer


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("study"))


class Killed(BaseException):
    """A training that ends where no code of ours runs."""


class Interrupted(SavedState):
    """State that is followed by the end of the training, after so many epochs."""

    def __init__(self, *arguments, after, **options):
        super().__init__(*arguments, **options)
        self.after = after

    def save(self, content):
        super().save(content)
        if content["trainer"]["epoch"] == self.after:
            raise Killed


def same(one, other):
    """Whether two nested values are equal, tensors in every bit and in their layout."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.stride() == other.stride()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def untimed(state):
    """A trainer's state without what depends on the clock and on memory."""
    state = {k: v for k, v in state.items() if k not in ("seconds", "total_seconds", "peaks")}
    state["curve"] = without_times(state["curve"])
    return state


def without_times(curve):
    return [{key: row[key] for key in row if key != "seconds"} for row in curve]


# Every piece, and what else could be forgotten.
MOMENTUM = {"kind": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.001}
RECIPES = {
    **{
        f"loss {kind}": {"loss": {"kind": kind}, "samples_per_class": 2, "loss_lr": 0.1}
        for kind in registry.kinds("loss")
        if kind != "simclr"
    },
    "momentum": {"optimizer": MOMENTUM},
    "adam": {"optimizer": {"kind": "adam", "lr": 0.001, "weight_decay": 0.0001}},
    "adam with proxies": {"optimizer": {"kind": "adam"}, "loss": {"kind": "arcface"}},
    "step": {"schedule": {"kind": "step", "every": 2, "factor": 0.1}},
    "cosine": {"schedule": {"kind": "cosine", "warmup": 1}, "optimizer": MOMENTUM},
    "warm-up": {"schedule": {"kind": "constant", "warmup": 2}},
    "dropout": {"head": {"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.5}},
    "batchnorm head": {"head": {"kind": "batchnorm", "embedding_dim": 8}, "optimizer": MOMENTUM},
    "frozen batchnorm": {"frozen_batchnorm": True, "optimizer": MOMENTUM},
    "last blocks": {"trained_parts": {"kind": "last_blocks"}, "optimizer": MOMENTUM},
    "normalisation": {"trained_parts": {"kind": "normalisation"}, "optimizer": {"kind": "adamw"}},
    "lora": {
        "backbone": "timm/test_vit",
        "trained_parts": {"kind": "lora", "rank": 2},
        "optimizer": {"kind": "adamw"},
        "backbone_lr": 0.01,
        "clip_gradients": 0.5,
        "schedule": {"kind": "cosine", "warmup": 1},
    },
    "adamw with proxies": {"optimizer": {"kind": "adamw"}, "loss": {"kind": "arcface"}},
    "bfloat16": {"precision": "bfloat16", "optimizer": MOMENTUM},
    "simclr": {
        "head": {"kind": "simclr_projection"},
        "loss": {"kind": "simclr"},
        "augmentation": {"kind": "simclr"},
        "optimizer": {"kind": "adam", "lr": 0.001},
    },
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_piece_goes_on_bit_for_bit(study, tmp_path, name):
    """Would catch weights, proxies, buffers or schedules that are not stored, or in another layout."""
    dataset = study.dataset()
    rows = dataset.images("train")[:16]
    recipe = small_recipe(**RECIPES[name], epochs=3)
    arguments = recipe, study.train_pack, rows, dataset.labels[rows], 6

    undisturbed = Trainer(*arguments)
    for _ in range(3):
        undisturbed.train_epoch()

    first = Trainer(*arguments)
    first.train_epoch()
    first.store(SavedState(tmp_path / "state.pt", "key"))
    del first
    torch.manual_seed(99)
    second = Trainer(*arguments)
    found = SavedState(tmp_path / "state.pt", "key")
    second.load_state_dict(found.content["trainer"])
    while second.epoch < 3:
        second.train_epoch()
    assert same(untimed(second.state_dict()), untimed(undisturbed.state_dict()))


@pytest.mark.parametrize("size", [32, 64])
def test_trimmed_and_whole_networks_go_on_bit_for_bit(tmp_path, tmp_path_factory, size):
    """Would catch momentum of a layout that fused steps read wrongly, where nothing is trimmed."""
    study = TinyStudy(tmp_path_factory.mktemp("study"), classes=2, images=5, unseen=1, size=size)
    dataset = study.dataset()
    recipe = small_recipe(optimizer=MOMENTUM, image_size=size, epochs=2, batch_size=4)
    runs = []
    for after in (None, 1):
        if after:
            state = Interrupted(tmp_path / "state.pt", "key", after=after)
            with pytest.raises(Killed):
                train_run(recipe, dataset, study.train_pack, study.test_pack, saved=state)
        saved = SavedState(tmp_path / "state.pt", "key") if after else None
        assert not after or len(saved.curve) == after
        runs.append(train_run(recipe, dataset, study.train_pack, study.test_pack, saved=saved))
    assert same(runs[0].model.state_dict(), runs[1].model.state_dict())


@pytest.mark.parametrize("after", [1, 2, 3])
def test_run_goes_on_with_its_curve_and_its_costs(study, tmp_path, after):
    """Would catch points of the test curve, or seconds of earlier attempts, that are lost."""
    recipe = small_recipe(epochs=3, head={"kind": "none"}, loss={"kind": "crossentropy"})
    arguments = recipe, study.dataset("limited_classes"), study.train_pack, study.test_pack
    undisturbed = train_run(*arguments)
    path = tmp_path / "state.pt"
    with pytest.raises(Killed):
        train_run(*arguments, saved=Interrupted(path, "key", after=after))
    saved = SavedState(path, "key")
    stored = saved.content | {"total": saved.content["trainer"]["total_seconds"]}
    peak = saved.content["trainer"]["peaks"][0][0]
    assert [row["epoch"] for row in saved.curve] == list(range(1, after + 1))
    trained = []
    run = train_run(*arguments, on_epoch=lambda row, rate: trained.append(row), saved=saved)
    assert [row["epoch"] for row in trained] == ([after + 1, 3][: 3 - after] or [3])
    assert same(run.model.state_dict(), undisturbed.model.state_dict())
    assert same(run.loss.state_dict(), undisturbed.loss.state_dict())
    assert without_times(run.curve) == without_times(undisturbed.curve)
    for key, values in undisturbed.embeddings.items():
        np.testing.assert_array_equal(run.embeddings[key], values)
    assert run.cost["train_seconds"] == pytest.approx(sum(row["seconds"] for row in run.curve))
    assert run.cost["evaluation_seconds"] > stored["evaluation_seconds"]
    assert run.cost["total_seconds"] > stored["total"]
    assert run.cost["peak_host_memory_mb"] >= peak


@pytest.mark.parametrize("kind", ["simclr", "classifier"])
def test_initializer_goes_on_with_its_check(study, tmp_path, kind):
    """Would catch features "before" that are those of a training half done."""
    classifier = {"head": {"kind": "none"}, "loss": {"kind": "crossentropy"}}
    recipe = small_recipe(**(RECIPES["simclr"] if kind == "simclr" else classifier))
    arguments = recipe, study.dataset("limited_classes"), study.train_pack, study.test_pack
    backbone, curve, check, _ = pretrain(*arguments)
    with pytest.raises(Killed):
        pretrain(*arguments, saved=Interrupted(tmp_path / "state.pt", "key", after=1))
    found = pretrain(*arguments, saved=SavedState(tmp_path / "state.pt", "key"))
    assert same(found[0].state_dict(), backbone.state_dict())
    assert without_times(found[1]) == without_times(curve)
    assert found[2] == check


def test_candidate_goes_on(study, tmp_path):
    """Would catch scores of a candidate that was trained for fewer epochs than the others."""
    images = pd.DataFrame({"image_id": range(36), "class_id": np.repeat(range(6), 6)})
    images["part"] = [
        HELD_OUT if row.class_id == 5 else VALIDATION if row.image_id % 6 == 0 else TRAIN
        for row in images.itertuples()
    ]
    arguments = small_recipe(), images, study.train_pack, study.test_pack
    scores, _ = try_recipe(*arguments)
    with pytest.raises(Killed):
        try_recipe(*arguments, saved=Interrupted(tmp_path / "state.pt", "key", after=1))
    epochs = []
    saved = SavedState(tmp_path / "state.pt", "key")
    again, _ = try_recipe(*arguments, on_epoch=lambda row, rate: epochs.append(row), saved=saved)
    assert again == scores
    assert [row["epoch"] for row in epochs] == [2]


def test_state_may_be_stored_less_often(study, tmp_path):
    """Would catch an epoch's state that nobody asked for, or a last one that is not stored."""
    stored = []
    saved = SavedState(tmp_path / "state.pt", "key", every=2)
    saved.save = lambda content: stored.append(content["trainer"]["epoch"])
    recipe = small_recipe(epochs=5)
    train_run(recipe, study.dataset(), study.train_pack, study.test_pack, saved=saved)
    assert stored == [2, 4, 5]


# State that must not be taken up.


@pytest.fixture
def stored(study, tmp_path):
    """A run that ended after its first epoch: where its state is, and what was asked for."""
    path = tmp_path / "state" / "training.pt"
    with pytest.raises(Killed):
        train_run(
            small_recipe(),
            study.dataset(),
            study.train_pack,
            study.test_pack,
            saved=Interrupted(path, "key", after=1),
        )
    return path


def refused(path, caplog, key="key"):
    """Open a state that must not be used; returns the one line that was said about it."""
    caplog.clear()
    saved = SavedState(path, key)
    assert saved.content is None
    assert saved.curve == []
    assert not path.exists()
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert str(path) in record.getMessage()
    assert "starting from the beginning" in record.getMessage()
    return record.getMessage()


def test_state_of_another_training_is_removed(stored, caplog):
    """Would catch a changed recipe that goes on with the old one's weights."""
    assert "another recipe, other code or other data" in refused(stored, caplog, key="other")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: b"what is this?",
        # A bit of a weight, which torch would load.
        lambda content: (
            content[: len(content) // 2]
            + bytes([content[len(content) // 2] ^ 1])
            + content[len(content) // 2 + 1 :]
        ),
        lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    ],
    ids=["empty", "half", "a byte short", "text", "one bit", "zeros"],
)
def test_damaged_state_is_removed(stored, caplog, damage):
    """Would catch a training that crashes on, or goes on with, what a full disk left."""
    stored.write_bytes(damage(stored.read_bytes()))
    assert "cannot be read" in refused(stored, caplog)


def test_state_that_holds_code_is_not_run(stored, caplog, tmp_path):
    """Would catch a file that is unpickled."""

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format": resume.FORMAT, "key": "key", "content": Evil()}, stored)
    refused(stored, caplog)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("value", [["a list"], {"format": 0, "key": "key"}, {}])
def test_foreign_files_are_removed(stored, caplog, value):
    """Would catch a file of another version of the project, taken for one of this."""
    torch.save(value, stored)
    refused(stored, caplog)


def test_state_that_does_not_fit_starts_from_the_beginning(study, stored, caplog):
    """Would catch weights half loaded, with which a training goes on."""
    saved = SavedState(stored, "key")
    saved.content["trainer"]["schedule"] = None
    caplog.clear()
    arguments = small_recipe(), study.dataset(), study.train_pack, study.test_pack
    run = train_run(*arguments, saved=saved)
    assert "does not fit" in caplog.text
    assert same(run.model.state_dict(), train_run(*arguments).model.state_dict())
    assert [row["epoch"] for row in run.curve] == [1, 2]


def test_key_follows_recipe_code_and_content_alone(tmp_path):
    """Would catch state that survives other data, or that a moved project loses."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text("content")
    files = {"manifest": tmp_path / "one" / "manifest.csv"}
    key = training_key({"a": 1, "b": 2.0}, "code", files)
    moved = {"manifest": str(tmp_path / "two" / "manifest.csv")}
    assert training_key({"b": 2, "a": 1}, "code", moved) == key
    others = [
        training_key({"a": 1, "b": 3}, "code", files),
        training_key({"a": 1, "b": 2}, "edited", files),
        training_key({"a": 1, "b": 2}, "code", {**files, "weights": files["manifest"]}),
        training_key({"a": 1, "b": 2}, "code", {"split": files["manifest"]}),
    ]
    files["manifest"].write_text("other content")
    others.append(training_key({"a": 1, "b": 2}, "code", files))
    assert len({key, *others}) == 6


def test_writing_that_breaks_off_keeps_the_state_before(stored, monkeypatch):
    """Would catch state that is overwritten in place."""
    before = stored.read_bytes()
    saved = SavedState(stored, "key")
    write = torch.save

    def half(value, stream):
        write(value, stream)
        stream.truncate(1000)
        raise Killed

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(Killed):
        saved.save({})
    assert stored.read_bytes() == before
    assert list(stored.parent.iterdir()) == [stored]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_full_disk_is_named(stored, monkeypatch):
    """Would catch a traceback of torch's archive writer in place of a sentence."""
    monkeypatch.setattr("dmlstudy.core.files.temporary_path", lambda path: path.with_name("full"))
    (stored.parent / "full").symlink_to("/dev/full")
    with pytest.raises(StudyError, match=r"training\.pt: cannot be written: the disk is full"):
        SavedState(stored, "key").save({"weights": torch.zeros(100_000)})
    assert SavedState(stored, "key").content is not None


# Who may write.

HOLDER = """
import sys
from dmlstudy.core.files import StudyError
from dmlstudy.core.ownership import sole_owner

with sole_owner(sys.argv[1]) as owner:
    print("owns", flush=True)
    for line in sys.stdin:
        try:
            owner.check()
        except StudyError as error:
            sys.exit(str(error))
        print("still", flush=True)
"""


def holder(folder):
    """Another process that owns ``folder``; it looks whether it still does for each line it gets."""
    scripts = str(Path(resume.__file__).parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": scripts},
    )


def say(process, line="go on\n"):
    process.stdin.write(line)
    process.stdin.flush()
    return process.stdout.readline().strip()


def until(condition):
    """Wait for ``condition()``; fails only if it never comes."""
    deadline = time.monotonic() + 1800
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_newest_process_goes_on_and_the_others_end(tmp_path, caplog):
    """Would catch two processes that write one run, or a new one that ends for an old one's sake."""
    old = holder(tmp_path / "state")
    assert old.stdout.readline() == "owns\n"
    assert say(old) == "still"
    taken = threading.Event()

    def take():
        with sole_owner(tmp_path / "state"):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    until(lambda: "is still running" in caplog.text)
    assert f"process {old.pid} on " in caplog.text
    assert not taken.is_set(), "the old process still writes"
    out, error = old.communicate("go on\n")
    assert (old.returncode, out) == (1, "")
    assert f"process {os.getpid()} on " in error
    assert "has taken over" in error
    thread.join()
    assert taken.is_set()


def test_killed_owner_is_followed_at_once(tmp_path):
    """Would catch a lock that outlives its process."""
    old = holder(tmp_path / "state")
    assert old.stdout.readline() == "owns\n"
    old.kill()
    old.communicate()
    with sole_owner(tmp_path / "state") as owner:
        owner.check()


def test_owner_that_finished_while_another_waited(tmp_path, caplog):
    """Would catch a lock on a file that was removed, beside which a third process takes its own."""
    with resume.saved_state(tmp_path / "state", {}, "code", {}):
        new = holder(tmp_path / "state")
        until(lambda: str(new.pid) in (tmp_path / "state" / "owner").read_text())
    assert new.stdout.readline() == "owns\n"
    with open(tmp_path / "state" / "owner") as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert say(new) == "still"
    new.communicate()
    assert new.returncode == 0


def test_state_goes_with_the_finished_training(tmp_path):
    """Would catch state that a later training finds, or that is gone before the outputs are there."""

    def fail():
        with resume.saved_state(tmp_path / "state", {}, "code", {}) as saved:
            saved.save({"trainer": {"curve": []}})
            raise StudyError("no outputs")

    with pytest.raises(StudyError):
        fail()
    with resume.saved_state(tmp_path / "state", {}, "code", {}) as saved:
        assert saved.content is not None
    assert not (tmp_path / "state").exists()


def test_file_system_without_locks(tmp_path, monkeypatch, caplog):
    """Would catch a cluster's file system on which nothing can be trained."""

    def refuse(*arguments):
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr("dmlstudy.core.ownership.fcntl.flock", refuse)
    with sole_owner(tmp_path / "state") as owner:
        owner.check()
        with sole_owner(tmp_path / "state"), pytest.raises(StudyError, match="taken over"):
            owner.check()
    assert "continuing without a lock" in caplog.text
