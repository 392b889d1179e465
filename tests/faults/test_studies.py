"""What goes wrong around Snakemake: each fault does what docs/interruptions.md says."""

import os
import signal
import subprocess
import time

import pandas as pd
import pytest
from trainings import FAULTS, until

NAME = "EPSHN_cosine_resnet18_scratch_sgd_aug"
RUN = f"experiments/{NAME}/seed42/all_classes"
MODEL = f"results/tiny/{RUN}/model.pt"


def run(project, *arguments, **options):
    return project.snakemake(MODEL, *arguments, config=FAULTS, **options)


def outputs(project):
    """{name: content} of the run's existing outputs, without times."""
    folder = project.result(RUN)
    found = {path.name: path.read_bytes() for path in sorted(folder.glob("*.[pn]*"))}
    if (folder / "curves.csv").exists():
        found["curves.csv"] = pd.read_csv(folder / "curves.csv").drop(columns="seconds").to_csv()
    return found


def leftovers(project):
    return [path for path in project.result("").rglob("*.tmp")]


def log(project):
    return project.result(f"logs/train/{NAME}_seed42_all_classes.log").read_text()


def trainer(project):
    """Id of the process that trains, or None while another process takes over."""
    words = (project.result(RUN) / "state" / "owner").read_text().split()
    return int(words[2]) if len(words) > 2 else None


def stored(project):
    return (project.result(RUN) / "state" / "training.pt").exists()


@pytest.fixture(scope="module")
def expected(prepared, tmp_path_factory):
    """Outputs of the same training, undisturbed."""
    project = prepared.copy(tmp_path_factory.mktemp("undisturbed") / "project")
    run(project)
    assert set(outputs(project)) == {"model.pt", "embeddings.npz", "curves.csv"}
    return outputs(project)


def stop_first(project, text):
    """Start Snakemake and pause its training once it has state: (process of Snakemake, of the training)."""
    first = project.start(MODEL, config=FAULTS, stdout=text, start_new_session=True)
    until(lambda: stored(project) or first.poll() is not None)
    assert first.poll() is None
    process = trainer(project)
    os.kill(process, signal.SIGSTOP)
    return first, process


def test_second_snakemake_is_refused(project, expected, tmp_path):
    """Would catch two Snakemakes that write to one folder, or a second one that disturbs the first."""
    with open(tmp_path / "first", "w+") as text:
        first, process = stop_first(project, text)
        try:
            said = run(project, ok=False)
        finally:
            os.kill(process, signal.SIGCONT)
        assert "Directory cannot be locked" in said
        assert first.wait() == 0
        text.seek(0)
        assert "1 of 1 steps (100%) done" in text.read()
    assert outputs(project) == expected
    assert project.planned(MODEL, config=FAULTS) == []


def test_killed_snakemake(project, expected, tmp_path):
    """Would catch a leftover training that runs beside its successor, or whose work is lost."""
    with open(tmp_path / "first", "w+") as text:
        first, process = stop_first(project, text)
        first.kill()
        first.wait()
    said = run(project, ok=False)
    assert "--unlock" in said
    run(project, "--unlock")
    second = project.start(MODEL, config=FAULTS)
    try:
        until(lambda: trainer(project) not in (process, None) or second.poll() is not None)
        assert second.poll() is None
        # It waits for the leftover training.
        until(lambda: "is still running" in log(project))
    finally:
        os.kill(process, signal.SIGCONT)
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert f"process {process} on " in log(project)
    assert "continuing after epoch" in log(project)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert outputs(project) == expected
    assert leftovers(project) == []
    assert project.planned(MODEL, config=FAULTS) == []


def test_interrupted_snakemake(project, expected):
    """Would catch a Ctrl-C that waits for an epoch, or a training that starts again after it."""
    process = project.start(MODEL, config=FAULTS, start_new_session=True)
    until(lambda: stored(project) or process.poll() is not None)
    # A terminal signals all processes in the foreground.
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode != 0, said
    assert "ended by SIGINT" in log(project)
    assert outputs(project) == {}
    assert stored(project)
    run(project)
    assert "continuing after epoch" in log(project)
    assert outputs(project) == expected
    assert leftovers(project) == []


def test_killed_training_goes_on_when_it_is_tried_again(project, expected):
    """Would catch state that is lost when Snakemake removes outputs before a retry."""
    process = project.start(MODEL, "--retries", "1", config=FAULTS)
    until(lambda: stored(project) or process.poll() is not None)
    os.kill(trainer(project), signal.SIGKILL)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert "Trying to restart job" in said
    assert "continuing after epoch" in log(project)
    assert outputs(project) == expected


def test_full_disk(project, expected, mount):
    """Would catch a traceback instead of a reason, an incomplete file, or a study that starts again."""
    folder = project.result("experiments")
    # Room for one state of 45 MB, but not for a second one.
    mount(folder, "-t", "tmpfs", "-o", "size=70m", "tmpfs")
    said = run(project, ok=False)
    state = f"results/tiny/{RUN}/state/training.pt"
    assert f"error: {state}: cannot be written: the disk is full" in said
    assert "Traceback" not in said
    assert "Traceback" not in log(project)
    assert outputs(project) == {}
    assert leftovers(project) == []
    assert stored(project)
    subprocess.run(["mount", "-o", "remount,size=300m", folder], check=True)
    run(project)
    assert "continuing after epoch 1" in log(project)
    assert outputs(project) == expected


def test_read_only_results(project, mount):
    """Would catch a traceback of Snakemake instead of a reason, or a dry run that fails."""
    folder = project.result("")
    mount(folder, "--bind", folder)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
    said = run(project, ok=False)
    assert f"results_dir: {folder.resolve()}: not writable" in said
    assert "Error in rule" not in said
    assert len(project.planned(MODEL, config=FAULTS)) == 1


def test_clock_that_jumps(project, expected):
    """Would catch outputs that look old because of the clock, so that Snakemake removes them."""
    tables = [
        path for path in project.result("data").rglob("*") if path.suffix in (".csv", ".sha256")
    ]
    for path in tables:
        os.utime(path, (time.time() + 10_000,) * 2)
    said = run(project, ok=False)
    assert "the clock was set back" in said
    assert outputs(project) == {}
    for path in tables:
        os.utime(path)
    run(project)
    assert outputs(project) == expected
    # Outputs older than their inputs, which have not changed.
    for path in project.result(RUN).iterdir():
        os.utime(path, (10**9,) * 2)
    assert project.planned(MODEL, config=FAULTS) == []
