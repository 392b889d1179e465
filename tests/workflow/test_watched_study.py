"""`watch.py` beside a real Snakemake: before, while trainings are held, after kills, and to the end."""

import contextlib
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
import time

import pytest
from tiny_study import Project

from dmlstudy.plan.snapshot import line

FAULTS = "tests/faults/faults.yaml"
EXPERIMENT = "EPSHN_cosine_resnet18_scratch_sgd_aug"
RUNS = f"results/tiny/experiments/{EXPERIMENT}/seed42"
MODELS = [f"{RUNS}/{name}/model.pt" for name in ("all_classes", "limited_classes")]
# Two trainings and what they need.
STUDY = [*MODELS, "--configfile", FAULTS]


def until(condition, process=None):
    """Wait for ``condition()``; fails only if it never comes, or if ``process`` ends before."""
    deadline = time.monotonic() + 1800
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.02)


def process_of(owner):
    """The id of the process that an ``owner`` file names, or None."""
    with contextlib.suppress(FileNotFoundError):
        found = re.match(r"\w+ process (\d+) on ", owner.read_text())
        return int(found[1]) if found else None
    return None


@pytest.fixture
def project(tmp_path, monkeypatch):
    made = Project.fresh(tmp_path / "project", FAULTS)
    monkeypatch.chdir(made.folder)
    return made


@pytest.fixture
def killable(project, monkeypatch):
    """The project, with jobs that can be held and killed."""
    # Each is a process of its own.
    monkeypatch.setenv("DML_FORK_SERVER", "off")
    # Long enough to be held; its log has a line for five epochs.
    project.change_yaml(FAULTS, lambda config: config["protocol"].update(epochs=100))
    # A Snakemake that is killed leaves a folder behind. The path is short, as those of sockets must be.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        yield project


class Held:
    """Trainings that are suspended as soon as their logs tell of epochs, by class set."""

    def __init__(self, project):
        self.folders = {
            name: project.folder / RUNS / name for name in ("all_classes", "limited_classes")
        }
        self.logs = project.folder / "results" / "tiny" / "logs" / "train"
        self.processes = {}

    def hold(self, snakemake):
        def all_are_held():
            for name, folder in self.folders.items():
                log = self.logs / f"{EXPERIMENT}_seed42_{name}.log"
                if name in self.processes or not log.exists() or "epochs" not in log.read_text():
                    continue
                self.processes[name] = process_of(folder / "state" / "owner")
                os.kill(self.processes[name], signal.SIGSTOP)
            return len(self.processes) == len(self.folders)

        until(all_are_held, snakemake)

    def kill(self):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def watcher(project, **options):
    """A `Watch` of the project's own program."""
    program = runpy.run_path(str(project.folder / "workflow" / "scripts" / "watch.py"))
    return program, program["Watch"](STUDY, **options)


def of(snapshot, state):
    """Titles of the jobs in a state."""
    pairs = zip(snapshot.plan["jobs"], snapshot.states, strict=True)
    return sorted(job["title"] for job, one in pairs if one.state == state)


def titles(*names):
    return sorted(f"Train {EXPERIMENT} ({name}, seed 42)" for name in names)


def test_states_are_true(killable):
    """Would catch waiting jobs that run, a killed training that runs for ever, a failure without its reason."""
    program, watch = watcher(killable)
    before = watch.take()
    planned = killable.planned(*MODELS, config=FAULTS)
    assert of(before, "waiting") == planned
    assert before.counts == {"done": 0, "running": 0, "waiting": len(planned), "failed": 0}
    assert before.left is None
    assert "no Snakemake runs" in line(before)
    everything = len(planned)

    output = open(killable.folder / "output", "w")  # noqa: SIM115
    snakemake = killable.start(*MODELS, config=FAULTS, stdout=output)
    held = Held(killable)
    try:
        held.hold(snakemake)
        during = watch.take()
        assert of(during, "running") == titles("all_classes", "limited_classes")
        assert of(during, "waiting") == of(during, "failed") == []
        # Everything else is there, and Snakemake would not make it again.
        left = killable.planned(*MODELS, "--nolock", config=FAULTS)
        assert of(during, "done") == sorted(set(planned) - set(left))
        assert left == titles("all_classes", "limited_classes")
        rows = {
            job["training"]["class_set"]: one.rows
            for job, one in zip(during.plan["jobs"], during.states, strict=True)
            if job["training"]
        }
        for name, folder in held.folders.items():
            table = (folder / "state" / "curves.csv").read_text().splitlines()[1:]
            assert [row.epoch for row in rows[name]] == [int(text.split(",")[0]) for text in table]
        assert during.left > 0
        assert during.slots[0] == 2
        assert during.alive.process == snakemake.pid

        # Files that are damaged or half written change nothing.
        journal = during.alive.path
        with open(journal, "ab") as stream:
            stream.write(b'\xff{"event": "finished", "ti')
        curve = held.folders["all_classes"] / "state" / "curves.csv"
        whole = curve.read_bytes()
        curve.write_bytes(whole[: len(whole) // 2] + b"\xff\0")
        assert of(watch.take(), "running") == of(during, "running")
        curve.write_bytes(whole)

        # One training is killed. Snakemake goes on for the sake of the other.
        os.kill(held.processes["limited_classes"], signal.SIGKILL)
        until(lambda: of(watch.take(), "failed"), snakemake)
        failed = watch.take()
        assert of(failed, "failed") == titles("limited_classes")
        assert of(failed, "running") == titles("all_classes")
        (one,) = failed.failures
        log = (killable.folder / one["log"]).read_text().splitlines()
        assert one["lines"] == [text for text in log if text.strip()][-12:]
        assert len(one["lines"]) > 0
        assert "ended from outside" in one["sentence"]
        page = program["watch_page"](failed, seconds=5)
        assert one["lines"][-1].split(" ", 2)[2].replace("&", "&amp;") in page

        # Snakemake is killed: the training goes on by itself until it is killed as well.
        snakemake.kill()
        snakemake.wait()
        alone = watch.take()
        assert of(alone, "running") == titles("all_classes")
        assert alone.alive is None
        os.kill(held.processes["all_classes"], signal.SIGKILL)
        until(lambda: not of(watch.take(), "running"))
        after = watch.take()
        assert of(after, "waiting") + of(after, "failed") == titles(
            "all_classes", "limited_classes"
        )
        assert after.counts["done"] == everything - 2
    finally:
        held.kill()
        snakemake.kill()
        snakemake.wait()
        output.close()
        # Shown if the test fails.
        print((killable.folder / "output").read_text())


def test_the_program_follows_to_the_end(project):
    """Would catch a watch that takes the lock, changes files, or does not end with the study."""
    project.change_yaml(FAULTS, lambda config: config["protocol"].update(epochs=3))
    program = [sys.executable, project.folder / "workflow" / "scripts" / "watch.py"]
    watch = subprocess.Popen(
        [*program, "--every", "0.3", *STUDY],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    page = project.folder / "results" / "tiny" / "watch.html"
    until(page.exists, watch)
    assert 'data-ended="no"' in page.read_text()
    project.snakemake(*MODELS, config=FAULTS)
    files = {
        path: (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (project.folder / "results").rglob("*")
        if path.is_file() and path != page
    }
    text, _ = watch.communicate(timeout=600)
    assert watch.returncode == 0, text
    first, *lines = text.splitlines()
    assert first == "page: results/tiny/watch.html"
    total = len(project.planned(*MODELS, "--forceall", config=FAULTS))
    assert lines[0] == (
        f"0 of {total} jobs done · 0 running · {total} waiting · time left not known yet · "
        "no Snakemake runs"
    )
    assert lines[-1] == f"{total} of {total} jobs done · 0 running · 0 waiting · finished"
    assert any("1 running" in text or "2 running" in text for text in lines)
    assert 'data-ended="yes"' in page.read_text()
    assert not list((project.folder / ".snakemake" / "locks").iterdir())
    for path, before in files.items():
        assert (path.stat().st_mtime_ns, path.stat().st_size) == before, path
    assert project.planned(*MODELS, config=FAULTS) == []

    # After the end it says so at once; Ctrl-C ends it without a traceback before that.
    again = subprocess.run([*program, *STUDY], cwd=project.folder, capture_output=True, text=True)
    assert again.stdout.splitlines()[-1] == lines[-1]
    (project.folder / MODELS[0]).unlink()
    waiting = subprocess.Popen(
        [*program, *STUDY],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert waiting.stdout.readline() == first + "\n"
    waiting.send_signal(signal.SIGINT)
    out, errors = waiting.communicate(timeout=600)
    assert waiting.returncode == 0
    assert errors == ""
    assert "1 running" not in out
    assert "watch was ended" in page.read_text()


def test_a_mistake_is_told_in_snakemakes_words(project):
    """Would catch a traceback, or an empty page, for a configuration that is wrong."""
    project.change_yaml(FAULTS, lambda config: config["protocol"].update(epoch=3))
    program = [sys.executable, project.folder / "workflow" / "scripts" / "watch.py"]
    found = subprocess.run([*program, *STUDY], cwd=project.folder, capture_output=True, text=True)
    assert found.returncode == 1
    assert "Snakemake cannot plan this study" in found.stderr
    assert "epoch" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (project.folder / "results" / "tiny" / "watch.html").exists()
