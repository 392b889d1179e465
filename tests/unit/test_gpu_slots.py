"""Jobs get GPUs, never more than the memory of a card, and never wait for a dead job."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import small_recipe

from dmlstudy.compute import gpu_slots, memory
from dmlstudy.compute.gpu_slots import KEPT, Card
from dmlstudy.core import registry, source_code
from dmlstudy.core.files import StudyError
from dmlstudy.plan.recipe import FeatureRecipe

SCRIPTS = Path(gpu_slots.__file__).parents[2]
TWO = [Card("GPU-a", 10_000 + KEPT, 10_000 + KEPT), Card("GPU-b", 10_000 + KEPT, 10_000 + KEPT)]

# A job: takes memory, says when and where, holds it for a while.
JOB = """
import json, os, sys, time
sys.path.insert(0, {scripts!r})
from dmlstudy.compute import gpu_slots
gpu_slots.POLL = 0.01
cards = [gpu_slots.Card(*card) for card in {cards!r}]
needed, held = int(sys.argv[1]), float(sys.argv[2])
descriptor = gpu_slots.take(needed, find_cards=lambda: cards, folder=gpu_slots.Path({folder!r}))
print(json.dumps([os.environ.get("CUDA_VISIBLE_DEVICES"), time.monotonic()]), flush=True)
time.sleep(held)
print(json.dumps(time.monotonic()), flush=True)
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gpu_slots, "POLL", 0.01)


def job(folder, needed, held, cards=TWO):
    code = JOB.format(
        scripts=str(SCRIPTS), cards=[tuple(card) for card in cards], folder=str(folder)
    )
    command = [sys.executable, "-c", code, str(needed), str(held)]
    # Unbuffered, so that lines can be read one by one and the others later.
    return subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)


def take(folder, needed, cards=TWO):
    return gpu_slots.take(needed, find_cards=lambda: cards, folder=folder)


# Which card.


def test_jobs_are_spread_and_two_share_a_card_if_they_fit(tmp_path, monkeypatch):
    """Would catch four jobs on the first card, or a card that takes one job only."""
    chosen = []
    for _ in range(4):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert take(tmp_path, 5000) is not None
        chosen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert sorted(chosen) == ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]
    assert chosen[0] != chosen[1]


@pytest.mark.parametrize(
    ("variable", "allowed"),
    [("1", {"GPU-b"}), ("GPU-a", {"GPU-a"}), ("0,1", {"GPU-a", "GPU-b"}), ("GPU-b,0", {"GPU-a", "GPU-b"})],
)  # fmt: skip
def test_a_variable_that_is_set_is_respected(tmp_path, monkeypatch, variable, allowed):
    """Would catch a job on a card that the user excluded."""
    found = set()
    for _ in allowed:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
        assert take(tmp_path, 6000) is not None
        found.add(os.environ["CUDA_VISIBLE_DEVICES"])
    assert found == allowed


@pytest.mark.parametrize("variable", ["", "7", "MIG-1234", "-1", "GPU-"])
def test_what_is_not_understood_stays_as_it_is(tmp_path, monkeypatch, variable):
    """Would catch a job on a hidden card, or a MIG slice that is not recognised."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert take(tmp_path, 100) is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == variable


def test_slurm_and_machines_without_a_gpu_are_left_alone(tmp_path, monkeypatch):
    """Would catch a job that uses another card than SLURM's, or waits without a GPU."""
    assert take(tmp_path, 100, cards=[]) is None
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    assert take(tmp_path, 100) is None
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert take(tmp_path, 100) is None


def test_cards_of_one_slurm_job_are_shared_out(tmp_path, monkeypatch):
    """Would catch trainings that all run on the first of two allocated cards."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    seen = []
    for _ in range(2):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        assert take(tmp_path, 100) is not None
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
    assert len(set(seen)) == 2


def test_memory_that_others_use_is_not_given(tmp_path, monkeypatch):
    """Would catch a job that fails because another user's job fills the card."""
    cards = [Card("GPU-a", 10_700, 1000), Card("GPU-b", 10_700, 8000)]
    take(tmp_path, 4000, cards)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"


def test_a_job_larger_than_a_card_has_one_to_itself(tmp_path):
    """Would catch a training that waits for ever because its estimate exceeds the card."""
    first = job(tmp_path, 50_000, 60)
    try:
        card, _ = json.loads(first.stdout.readline())
        assert take(tmp_path, 100) is not None
        assert os.environ["CUDA_VISIBLE_DEVICES"] == ({"GPU-a", "GPU-b"} - {card}).pop()
    finally:
        first.kill()
        first.wait()


def test_cards_are_asked_of_nvidia_smi(tmp_path, monkeypatch):
    """Would catch an unexpected answer of nvidia-smi, or a machine without it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_slots.installed_cards() == []
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU-1, 81559, 81000'\necho 'GPU-2, [N/A], [N/A]'\n")
    program.chmod(0o755)
    assert gpu_slots.installed_cards() == [Card("GPU-1", 81559, 81000)]
    program.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    assert gpu_slots.installed_cards() == []


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    """Would catch reservations in a folder of another user."""
    monkeypatch.setattr(gpu_slots.tempfile, "gettempdir", lambda: str(tmp_path))
    assert gpu_slots._folder().stat().st_mode & 0o777 == 0o700
    other = os.getuid() + 1
    (tmp_path / f"dml_gpu_slots_{other}").mkdir()
    monkeypatch.setattr(gpu_slots.os, "getuid", lambda: other)
    with pytest.raises(StudyError, match="another user"):
        gpu_slots._folder()


# Waiting.


def test_who_waits_says_so_and_goes_on_when_a_job_ends(tmp_path, caplog):
    """Would catch a job that waits without a log message, or for a card that is free."""
    holders = [job(tmp_path, 9000, 60) for _ in TWO]
    for holder in holders:
        holder.stdout.readline()
    waiter = job(tmp_path, 9000, 0)
    reservations = [path for path in tmp_path.iterdir() if path.name.startswith("GPU-")]
    assert len(reservations) == 2
    time.sleep(0.5)
    assert waiter.poll() is None
    card = reservations[0].name.partition(".")[0]
    pid = int(reservations[0].name.split(".")[1])
    os.kill(pid, signal.SIGKILL)
    assert json.loads(waiter.stdout.readline())[0] == card
    waiter.wait()
    for holder in holders:
        holder.kill()
        holder.wait()

    busy = [Card("GPU-a", 10_700, 0)]
    answers = iter([TWO, busy, busy, TWO])
    assert gpu_slots.take(5000, find_cards=lambda: next(answers), folder=tmp_path) is not None
    assert "waiting for a GPU with 5000 MB available (GPU-a: 0 jobs" in caplog.text
    assert caplog.text.count("waiting") == 1


def test_racing_jobs_never_overfill_a_card_and_none_is_stuck(tmp_path):
    """Would catch two jobs that both take the last free memory, or memory that a killed job keeps."""
    needs = [3000, 4000, 5000, 6000, 9000, 50_000]
    jobs = [(needs[number % 6], job(tmp_path, needs[number % 6], 0.15)) for number in range(24)]
    first, killed = {}, {}
    for number, (_, process) in enumerate(jobs):
        if number % 4 == 1:
            # One that has a card …
            first[number] = process.stdout.readline()
        elif number % 4 == 3:
            # … and one wherever it may be: starting, waiting, looking.
            time.sleep(0.03)
        else:
            continue
        killed[number] = time.monotonic()
        process.kill()
        process.wait()
    changes = []
    for number, (needed, process) in enumerate(jobs):
        lines = (first.get(number, b"") + process.communicate(timeout=600)[0]).splitlines()
        if number not in killed:
            assert process.returncode == 0
            assert len(lines) == 2
        if lines:
            card, begun = json.loads(lines[0])
            # A killed job held its memory at least until then.
            ended = json.loads(lines[1]) if len(lines) > 1 else killed[number]
            room = min(needed, 10_000)
            if begun < ended:
                changes += [(begun, room, card), (ended, -room, card)]
    held = {card.uuid: 0 for card in TWO}
    for _, change, card in sorted(changes):
        held[card] += change
        assert held[card] <= 10_000
    assert set(held.values()) == {0}


# How much.


def test_reckoned_memory_grows_with_what_is_trained():
    """Would catch a second view, larger images or a deeper network that are not counted."""
    base = small_recipe(image_size=224, batch_size=128)
    small = memory.needed_megabytes(base)
    assert 3000 < memory.needed_megabytes(base.changed(cuda_graphs=False)) < 8000
    assert 6000 < small < 12_000
    for more in ({"backbone": "resnet50"}, {"batch_size": 256}, {"augmentation": {"kind": "simclr"}}, {"image_size": 256}):  # fmt: skip
        assert memory.needed_megabytes(base.changed(**more)) > small
    assert memory.needed_megabytes(base, 2**30, 2**29) == small + 1536
    # The batch for embedding does not depend on the batch of the training.
    few = memory.needed_megabytes(base.changed(batch_size=2))
    assert few > memory.embedding_megabytes(base) + memory.CONTEXT


def test_every_augmentation_can_be_reckoned():
    """Would catch an augmentation whose views nobody counts."""
    for kind in registry.kinds("augmentation"):
        assert source_code.constant("augmentation", kind, "VIEWS") in (1, 2)


def test_jobs_of_the_cpu_take_nothing(monkeypatch):
    """Would catch a job with `device: cpu` that reserves a GPU."""
    monkeypatch.setattr(gpu_slots, "take", lambda needed: needed)
    assert gpu_slots.take_for(small_recipe(), 2**30) is None
    assert gpu_slots.take_for(small_recipe(device="auto"), 2**30) > 2024
    embedding = FeatureRecipe("resnet18", 32, "auto", 1, "auto")
    assert gpu_slots.take_to_embed(embedding, 2**30) > 2024
    assert gpu_slots.take_to_embed(dataclasses.replace(embedding, device="cpu"), 2**30) is None


def test_heads_take_little(monkeypatch):
    """Would catch a head on stored features that asks for the activations of a backbone."""
    whole = small_recipe(backbone="resnet50", image_size=224, batch_size=128)
    head = whole.changed(backbone_trains=False)
    assert memory.needed_megabytes(head) < 2500 < memory.needed_megabytes(whole)
    assert memory.needed_megabytes(head, 2**30) == memory.needed_megabytes(head) + 1024


def test_programs_choose_before_cuda_is_used():
    """Would catch an import that initialises CUDA before the card is chosen."""
    code = "import train, pretrain, torch; print(torch.cuda.is_initialized())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
