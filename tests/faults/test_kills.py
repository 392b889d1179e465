"""A training that is killed again and again gives the same results as an undisturbed one."""

import itertools
import os
import random
import shutil
import signal
import time

import pandas as pd
import pytest
from trainings import until

CLASSIFIER = {"head": {"kind": "none"}, "loss": {"kind": "crossentropy"}}
SIMCLR = {
    "head": {"kind": "simclr_projection"},
    "loss": {"kind": "simclr"},
    "augmentation": {"kind": "simclr"},
    "optimizer": {"kind": "adam", "lr": 0.001, "weight_decay": 0.0},
}


def survive(training, undisturbed, kills, seed):
    """Kill a training ``kills`` times at random moments, let it finish, and compare."""
    expected = undisturbed.finish().results()
    # An epoch with what follows takes about twice as long as its steps; pauses of the machine are ignored.
    seconds = 2 * pd.read_csv(undisturbed.out / "curves.csv")["seconds"].median()
    moments = random.Random(seed)
    for _ in range(kills):
        # Mostly during an epoch or while files are written after it, sometimes at the start.
        harm = {"epochs": moments.choice([0, 1, 1, 1, 1]), "seconds": moments.uniform(0, seconds)}
        assert training.attempt(harm) == -signal.SIGKILL, training.log
        # Existing outputs are complete.
        assert training.results().items() <= expected.items()
    training.finish()
    assert training.results() == expected
    assert training.leftovers() == []
    assert not training.state.exists()
    epochs = training.epochs()
    # Each kill costs at most one epoch, which starts again.
    assert len(epochs) <= training.recipe["epochs"] + kills
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(epochs))
    assert set(epochs) == set(range(1, training.recipe["epochs"] + 1))


def test_training_survives_twenty_kills(training):
    """Would catch weights or a curve that depend on interruptions, or lost work."""
    head = {"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.5}
    recipe = {"epochs": 30, "head": head, "schedule": {"kind": "cosine", "warmup": 2}}
    survive(training(**recipe), training("undisturbed", **recipe), 20, seed=20)


@pytest.mark.parametrize("recipe", [CLASSIFIER, SIMCLR], ids=["classifier", "simclr"])
def test_initializer_survives_kills(training, recipe):
    """The same for initializers, whose check "before" must stay that of the start."""
    recipe = {"program": "pretrain", "epochs": 12, **recipe}
    survive(training(**recipe), training("undisturbed", **recipe), 5, seed=5)


@pytest.mark.parametrize("program", ["train", "pretrain"])
def test_killed_before_each_file_is_renamed(training, program):
    """Would catch an incomplete output, or an attempt that starts again from the beginning."""
    recipe = {"program": program, "epochs": 1, **CLASSIFIER}
    expected = training("undisturbed", **recipe).finish().results()
    one = training(**recipe)
    for number in range(1, 100):
        code = one.attempt({"call": "os.replace", "number": number})
        assert one.results().items() <= expected.items()
        if code == 0:
            break
        assert code == -signal.SIGKILL, one.log
        # Snakemake removes declared outputs before a retry; the state is not declared.
        for path in one.out.glob("*.*"):
            if path.is_file() and not path.name.startswith("."):
                path.unlink()
    # State, curve during the training, four or five outputs.
    assert number > 5
    assert one.results() == expected
    assert one.leftovers() == []
    # Only the first kill came before the state existed.
    assert one.epochs() == [1, 1]


@pytest.mark.parametrize("call", ["torch.save", "os.fsync"])
def test_killed_while_state_is_written(training, call):
    """Would catch state that is not written atomically, or incomplete state that is used."""
    expected = training("undisturbed").finish().results()
    one = training()
    # The first call of os.fsync is for the file of the owner.
    number = 2 if call == "torch.save" else 4
    assert one.attempt({"call": call, "number": number}) == -signal.SIGKILL
    (left,) = one.leftovers()
    assert left.startswith(".training.pt.")
    one.finish()
    assert one.results() == expected
    assert one.epochs() == [1, 2, 2, 3, 4]
    assert one.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_training_that_computes(training, number):
    """Would catch a training that ends only after its step, or with success."""
    for trial in range(3):
        one = training(f"run{trial}", epochs=3)
        computing, computed = (one.folder / name for name in ("computing", "computed"))
        process = one.start({"compute": True})
        until(computing.exists)
        begun = time.monotonic()
        os.kill(process, number)
        code = one.end()
        seconds = time.monotonic() - begun
        assert code == 128 + number
        assert not computed.exists()
        assert f"ended by {number.name}" in one.log
        # The machine may have been busy.
        if seconds < 5:
            break
    else:
        pytest.fail(f"it took {seconds} s")
    one.finish()
    assert "continuing after epoch 1" in one.log
    assert one.epochs() == [1, 2, 2, 3]
    assert one.results() == training("undisturbed", epochs=3).finish().results()


# State of another training.


def truncate(one, material):
    path = one.state / "training.pt"
    os.truncate(path, path.stat().st_size // 2)


def change_recipe(one, material):
    one.recipe["optimizer"] = {**one.recipe["optimizer"], "lr": 0.02}


def change_code(one, material):
    one.code = "edited"


def change_pack(one, material):
    """Another data set with the same tables."""
    shutil.copytree(material, one.folder / "material", symlinks=True)
    one.material = one.folder / "material"
    pixels = one.material / "pack_shorter35" / "pixels.bin"
    pixels.write_bytes(pixels.read_bytes()[::-1])
    digest = pixels.with_name("pixels.bin.sha256")
    digest.write_text(f"{'0' * 64}  pixels.bin\n")


@pytest.mark.parametrize("change", [truncate, change_recipe, change_code, change_pack])
def test_other_state_is_not_taken_up(training, material, change):
    """Would catch a run that mixes two recipes or data sets, or that a broken file stops."""
    one = training(epochs=2)
    assert one.attempt({"epochs": 2, "seconds": 0}) == -signal.SIGKILL
    change(one, material)
    one.finish()
    assert one.epochs() == [1, 2, 1, 2]
    assert one.log.count("starting from the beginning") == 1
    assert "continuing after" not in one.log
    other = training("undisturbed", epochs=2)
    other.recipe, other.material = one.recipe, one.material
    assert one.results() == other.finish().results()


def test_moved_training_goes_on(training, material):
    """Would catch a key that contains a path, so that a moved project trains again."""
    one = training(epochs=2)
    assert one.attempt({"epochs": 2, "seconds": 0}) == -signal.SIGKILL
    moved = training("moved", epochs=2)
    shutil.copytree(material, moved.folder / "material")
    moved.material = moved.folder / "material"
    shutil.move(one.out, moved.out)
    moved.finish()
    assert moved.epochs() == [2]


def test_clock_that_was_set_back(training, material):
    """Would catch outputs older than their inputs, which Snakemake treats as failed and removes."""
    one = training(epochs=2)
    shutil.copytree(material, one.folder / "material")
    one.material = one.folder / "material"
    split = one.material / "split.csv"
    # Before the start: no wasted training.
    os.utime(split, (time.time() + 1000,) * 2)
    assert one.attempt() == 1
    assert f"{split}: its modification time is" in one.log
    assert f"touch {split}" in one.log
    assert one.epochs() == []
    # During the training: the work is kept.
    os.utime(split)
    assert one.attempt({"future": str(split)}) == 1
    assert one.results() == {}
    os.utime(split)
    one.finish()
    assert one.epochs() == [1, 2]
    assert one.results() == training("undisturbed", epochs=2).finish().results()
