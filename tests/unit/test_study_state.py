"""States of jobs from journals, locks and files: true also after a kill, and with damaged files."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from dmlstudy.core.held_locks import is_held
from dmlstudy.core.ownership import sole_owner
from dmlstudy.plan.run_journal import FOLDER, RunJournal, read_run, read_runs
from dmlstudy.plan.study_state import follow, slots, state_of
from dmlstudy.plan.training_progress import last_lines, logged_epochs, read_cost, read_curve

# A process that keeps a journal of one job, as Snakemake does, and then waits.
KEEPER = """
import logging, sys, time
from dmlstudy.plan.run_journal import RunJournal
logger = logging.getLogger("snakemake")
logger.setLevel(logging.INFO)
RunJournal().begin(logger, {"cores": 2, "gpu": 1, "nodes": None})
extra = {"event": "job_info", "jobid": 7, "output": ["out/a.csv", "out/b.csv"], "local": True}
logger.info("job", extra=extra)
print("ready", flush=True)
time.sleep(600)
"""


def job(folder=None, **more):
    """A job as `job_list.jobs_of` describes it; ``folder``: of a training."""
    training = None
    if folder is not None:
        state = folder / "state"
        curves = [str(state / "curves.csv"), str(folder / "curves.csv")]
        training = {"state": str(state), "curves": curves, "cost": None}
    found = {"outputs": ["out/a.csv", "out/b.csv"], "log": "", "needs": True, "training": training}
    return {**found, "work": None, "rule": "train", "title": "Train", **more}


@pytest.fixture
def keeper(tmp_path, monkeypatch):
    """A process with a journal, in a folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    path = os.pathsep.join(sys.path)
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_job_runs_as_long_as_its_snakemake_lives(keeper):
    """Would catch a job of a killed Snakemake that is shown as running for ever."""
    assert slots(read_runs())[:2] == (2, 1)
    assert state_of(job(), read_runs(), 0).state == "running"
    # Suspended is not ended.
    keeper.send_signal(signal.SIGSTOP)
    assert state_of(job(), read_runs(), 0).state == "running"
    keeper.kill()
    keeper.wait()
    (run,) = read_runs()
    assert run.alive is False
    found = state_of(job(), [run], 0)
    assert found.state == "waiting"
    assert "ended while it ran" in found.note
    assert slots([run], cores=3, gpu=1)[:2] == (3, 1)
    # A later plan that has no need of the job is right.
    assert state_of(job(needs=False), [run], time.time() + 1).state == "done"


def test_a_training_that_was_killed_does_not_run(keeper, tmp_path):
    """Would catch a killed training that is shown as running until Snakemake notices."""
    folder = tmp_path / "run"
    with sole_owner(folder / "state"):
        assert is_held(folder / "state" / "owner") is True
        assert state_of(job(folder), read_runs(), 0).state == "running"
    # The owner is named, but nobody holds the lock: as after a kill.
    assert is_held(folder / "state" / "owner") is False
    found = state_of(job(folder), read_runs(), 0)
    assert found.state == "waiting"
    assert "its process has ended" in found.note
    # It starts again: the name is that of the earlier attempt.
    os.utime(folder / "state" / "owner", (1, 1))
    assert state_of(job(folder), read_runs(), 0).state == "running"


def test_a_training_whose_snakemake_was_killed_goes_on(keeper, tmp_path):
    """Would catch a training that is called waiting while it computes."""
    keeper.kill()
    keeper.wait()
    folder = tmp_path / "run"
    with sole_owner(folder / "state"):
        found = state_of(job(folder), read_runs(), 0)
        assert found.state == "running"
        assert "by itself" in found.note
    assert state_of(job(folder), read_runs(), 0).state == "waiting"


def records(journal, *events):
    for event, values in events:
        journal.emit(SimpleNamespace(event=event, **values))


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """A journal of this process."""
    monkeypatch.chdir(tmp_path)
    made, logger = RunJournal(), logging.getLogger("a test of journals")
    made.begin(logger, {"cores": 4, "gpu": None, "nodes": None})
    yield made
    logger.removeHandler(made)
    made.stream.close()


STARTED = ("job_info", {"jobid": 3, "output": ["out/a.csv", "out/b.csv"], "local": False})


def test_done_needs_all_outputs(journal, tmp_path):
    """Would catch a job that counts as done because Snakemake once said so."""
    records(journal, STARTED, ("job_finished", {"job_id": 3}), ("shellcmd", {}), ("progress", {}))
    assert state_of(job(), read_runs(), 0).state == "waiting"
    for name in ("a.csv", "b.csv"):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / name).touch()
    assert state_of(job(), read_runs(), 0).state == "done"
    # It has to run again, says a plan that was made later.
    assert state_of(job(), read_runs(), time.time() + 1).state == "waiting"


def test_failed_until_it_is_started_again(journal):
    """Would catch a failure that is forgotten, and one that stays although the job runs again."""
    records(journal, STARTED, ("job_error", {"jobid": 3}))
    assert state_of(job(), read_runs(), 0).state == "failed"
    assert state_of(job(outputs=["out/other.csv"]), read_runs(), 0).state == "waiting"
    records(journal, STARTED)
    assert state_of(job(), read_runs(), 0).state == "running"


def test_submitted_jobs_wait_until_their_program_begins(journal, tmp_path):
    """Would catch a queue of a cluster that is shown as running."""
    records(journal, STARTED)
    (run,) = read_runs()
    run.cluster, run.nodes = True, 100
    found = state_of(job(log="job.log"), [run], 0)
    assert (found.state, found.note) == ("waiting", "submitted; its program has not begun")
    (tmp_path / "job.log").write_text("a line\n")
    assert state_of(job(log="job.log"), [run], 0).state == "running"
    assert slots([run])[:2] == (100, None)


def test_damaged_and_half_written_journals_are_read(journal):
    """Would catch a watch that ends with a traceback because a line is being written."""
    records(journal, STARTED)
    (path,) = FOLDER.glob("*.jsonl")
    with open(path, "ab") as stream:
        stream.write(
            b'\xff\xfe{}\n[1]\n{"event": "failed"}\n{"event": "finished", "time": "x"}\n{"ev'
        )
    assert state_of(job(), read_runs(), 0).state == "running"
    (FOLDER / "empty.jsonl").touch()
    (FOLDER / "other.jsonl").write_text(
        '{"event": "started", "time": 1, "outputs": ["out/a.csv"]}\n'
    )
    assert len(read_runs()) == 1
    assert read_run(FOLDER / "empty.jsonl") is None


def test_a_disk_that_is_full_costs_the_journal_only(journal):
    """Would catch a workflow that fails because its journal cannot be written."""
    journal.stream.close()
    journal.stream = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    records(journal, STARTED)


def test_a_record_that_is_not_as_expected_ends_nothing(journal, capsys):
    """Would catch a workflow that fails because another Snakemake names its facts differently."""
    records(journal, ("job_info", {"jobid": 4}))
    assert "AttributeError" in capsys.readouterr().err
    assert read_runs()[0].entries == {}


def test_few_journals_are_kept_and_none_that_is_in_use(journal):
    """Would catch a folder that grows for ever, or the journal of a living Snakemake that is removed."""
    mine = set(FOLDER.iterdir())
    for number in range(60):
        (FOLDER / f"{number:03}.jsonl").touch()
    later = RunJournal()
    later.begin(logging.getLogger("another"), {"cores": 1, "gpu": None, "nodes": None})
    later.stream.close()
    left = set(FOLDER.iterdir())
    assert mine < left
    assert len(left) < 25


def test_curves_that_are_damaged(tmp_path):
    """Would catch a traceback, or a point without a number, in a curve that is half written."""
    path = tmp_path / "curves.csv"
    assert read_curve(path) == ([], None)
    path.write_bytes(b"epoch,train_loss,test_accuracy,seconds\n1,2.5,,3.0\n2,nan,0.5,4\n3,1.")
    rows, changed = read_curve(path)
    assert [tuple(row) for row in rows] == [(1, 2.5, None, 3.0), (2, None, 0.5, 4.0)]
    assert changed == path.stat().st_mtime
    for content in (b"", b"\0\0\0", b"epoch\n1\n", b"epoch,seconds\n1.5,2\n2,-1\nx,y\n"):
        path.write_bytes(content)
        assert read_curve(path)[0] == []
    assert read_cost(path) is None
    path.write_text(json.dumps({"train_seconds": 3.5}))
    assert read_cost(path) == (3.5, 0.0)
    path.write_text("[]")
    assert read_cost(path) is None


def test_curve_and_epochs_of_a_job(journal, tmp_path):
    """Would catch a live curve that is shown for the finished one, or epochs of an earlier attempt."""
    folder = tmp_path / "run"
    records(journal, STARTED)
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "curves.csv").write_text("epoch,train_loss,test_accuracy,seconds\n1,2,,3\n")
    one = job(folder)
    found = follow(one, state_of(one, read_runs(), 0))
    assert (found.epochs, len(found.rows)) == (1, 1)
    log = tmp_path / "job.log"
    log.write_text(
        "2026-01-01 simclr: 3 of 12 epochs loss 2\n2026-01-01 simclr: 4 of 12 epochs\nx\n"
    )
    assert logged_epochs(log, 0)[0] == 4
    assert logged_epochs(log, time.time() + 9) == (0, None)
    assert logged_epochs(tmp_path / "none", 0) == (0, None)
    log.write_bytes(b"\xff line\n\n" + b"x" * 50_000 + b"\nlast\n")
    assert last_lines(log)[-1] == "last"
    assert last_lines(log, time.time() + 9) == []
    assert last_lines(tmp_path / "none") == []
