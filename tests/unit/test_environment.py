"""What `make` chooses and prints before anything is installed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dmlstudy.compute import devices
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import search

PROJECT = Path(__file__).resolve().parents[2]


def dry_make(folder, target):
    """The commands of a target on a machine whose PATH begins with ``folder``; nothing runs."""
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    command = ["make", "--dry-run", f"VENV={folder}/venv", target]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("driver", "wanted", "other"), [(True, "gpu", "cpu"), (False, "cpu", "gpu")]
)
def test_lock_follows_the_hardware(tmp_path, driver, wanted, other):
    """Would catch both FAISS builds in one environment, or a GPU that is not used."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nexit {0 if driver else 9}\n")
    program.chmod(0o755)
    commands = dry_make(tmp_path, "env")
    assert f"envs/{wanted}.lock" in commands
    assert f"envs/{other}.lock" not in commands
    assert "--require-hashes" in commands
    assert "activate it with" in commands


@pytest.mark.parametrize(
    ("target", "plain"),
    [
        ("demo", "snakemake --cores all --configfile config/demo.yaml"),
        ("test", "python -m pytest"),
        ("study", "snakemake --cores all --resources gpu=1"),
    ],
)
def test_targets_print_the_plain_command(tmp_path, target, plain):
    """Would catch a target that does not print the command that it runs."""
    lines = [line for line in dry_make(tmp_path, target).splitlines() if plain in line]
    assert len(lines) == 2
    assert lines[0].startswith("echo '$")


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 10, 13), (3, 14, 0)])
def test_unfit_python_gets_a_sentence(version):
    """Would catch a traceback, or an installation that fails after minutes."""
    program = (PROJECT / "envs/check_python.py").read_text()
    code = f"import sys; sys.version_info = {version}; exec({program!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11, 3.12 or 3.13")
    assert "Traceback" not in done.stderr


def test_locks_agree_and_hold_one_faiss_each():
    """Would catch locks compiled at different times, or one without hashes."""
    pins = {}
    for kind in ("cpu", "gpu"):
        text = (PROJECT / f"envs/{kind}.lock").read_text()
        pins[kind] = set(re.findall(r"^([a-z0-9.-]+==[^ \\]+)", text, re.MULTILINE))
        entries = re.split(r"\n(?=[a-z0-9.-]+==)", text)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)
    assert pins["cpu"] - pins["gpu"] == {"faiss-cpu==1.15.1"}
    # faiss-gpu brings libraries of CUDA 12 along; all else is the same.
    more = {pin for pin in pins["gpu"] - pins["cpu"] if not re.match(r"nvidia-.*-cu12==", pin)}
    assert more == {"faiss-gpu==1.15.1"}


def test_gpu_that_faiss_cannot_use_is_reported(monkeypatch, caplog):
    """Would catch a search on the CPU while a GPU is idle, without a warning."""
    monkeypatch.setattr(search.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    search._gpus.cache_clear()
    try:
        assert search._gpus() == 0
    finally:
        search._gpus.cache_clear()
    assert "faiss-cpu is installed" in caplog.text
    assert "make env" in caplog.text


def test_progress_is_a_bar_for_people_and_lines_for_a_log(monkeypatch, caplog, capsys):
    """Would catch a bar written to a log, or a training without any progress output."""
    from dmlstudy.core import console

    caplog.set_level("INFO")
    with console.Progress(3, "run", "epochs") as progress:
        for epoch in range(3):
            progress(1, f"loss {epoch}")
    assert [record.message for record in caplog.records][-1] == "run: 3 of 3 epochs loss 2"
    assert capsys.readouterr().err == ""
    with console.Progress(3, "run", "epochs", done=2) as progress:
        progress(1)
    assert caplog.records[-1].message == "run: 3 of 3 epochs"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.Progress(3, "run", "epochs") as progress:
        progress(1, "loss 0.5, accuracy 0.25, 200 images/s")
        progress.bar.refresh()
    shown = capsys.readouterr().err
    for part in ("run", "1/3", "loss 0.5", "accuracy 0.25", "images/s", "<"):
        assert part in shown


def test_gpu_that_was_promised_and_is_not_there_ends_the_job_in_words(monkeypatch):
    """Would catch a training on the CPU although device: cuda was set."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match="torch finds no GPU; set auto or cpu"):
        devices.choose_device("cuda")


def test_gpu_that_torch_cannot_use_is_reported(monkeypatch, caplog):
    """Would catch a GPU that torch cannot use (a container without ``--nv``), without a warning."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.Path, "exists", lambda path: False)
    assert devices.choose_device("auto").type == "cpu"
    assert not caplog.records
    monkeypatch.setattr(devices.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    assert devices.choose_device("cpu").type == "cpu"
    assert not caplog.records
    assert devices.choose_device("auto").type == "cpu"
    assert "--nv" in caplog.text


def test_conda_environment_installs_the_lock():
    """Would catch a conda environment with other versions, or a Python that the lock does not fit."""
    environment = yaml.safe_load((PROJECT / "envs/dml.yaml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert by_pip == {"pip": ["--require-hashes", "-r cpu.lock"]}
    assert "--python-version 3.11" in (PROJECT / "Makefile").read_text()


def test_images_install_the_same():
    """Would catch Containerfile and definition file with different steps."""
    steps = []
    for name in ("Containerfile", "dml.def"):
        text = (PROJECT / "containers" / name).read_text().replace("\\\n", " ")
        steps.append(
            [" ".join(line.split()) for line in re.findall(r"python -m (?:venv|pip) [^&\n]*", text)]
        )
    assert len(steps[0]) == 3
    assert "--require-hashes -r /opt/dml/environment.lock" in steps[0][1]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (None, "install one of: apptainer, singularity, podman, docker"),
        ("podman", "BUILDER is podman, which is not on the PATH"),
        ("buildah", "BUILDER is buildah; it can be one of: apptainer"),
    ],
)
def test_container_without_a_builder_gets_a_sentence(tmp_path, builder, words):
    """Would catch a traceback if no container program is installed."""
    environment = {"PATH": str(tmp_path)} | ({"BUILDER": builder} if builder else {})
    command = [sys.executable, PROJECT / "containers/build.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
