"""What each job of a study does now: from Snakemake's plan, journals of running Snakemakes, and files."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from dmlstudy.core.held_locks import is_held
from dmlstudy.plan.training_progress import logged_epochs, read_curve

DONE, RUNNING, WAITING, FAILED = "done", "running", "waiting", "failed"
STATES = (DONE, RUNNING, WAITING, FAILED)
# Clocks of file servers and other nodes differ a little, in seconds.
CLOCKS = 60
# The times of files come from a coarser clock than that of a journal, in seconds.
TICK = 0.1
# Slots where Snakemake has no limit.
MANY = 1_000_000


@dataclass
class JobState:
    """``state``: one of `STATES`; ``note``: a sentence that adds to it, or "".

    ``begun``, ``ended``: of its newest attempt, in seconds since 1970, or None; ``rows``: curve so far;
    ``epochs``: epochs that are done; ``moved``: when that was last seen to change.
    """

    state: str
    note: str = ""
    begun: float | None = None
    ended: float | None = None
    rows: list = field(default_factory=list)
    epochs: int = 0
    moved: float | None = None


def _modified(path):
    try:
        return os.stat(path).st_mtime
    except OSError:
        return None


def _newest(runs, key):
    """(run, entry) of the newest attempt of a job, or (None, None)."""
    found = [
        (run.entries[key].begun, place, run) for place, run in enumerate(runs) if key in run.entries
    ]
    if not found:
        return None, None
    run = max(found, key=lambda one: one[:2])[2]
    return run, run.entries[key]


def _of_entry(job, run, entry):
    """The `JobState` of a job that a journal says was started and has not ended."""
    begun = entry.begun
    if run.alive is False:
        return JobState(WAITING, "Snakemake was ended while it ran; it starts again", begun)
    if run.alive is None:
        note = f"started by a Snakemake on {run.host}; whether that lives cannot be known from here"
        return JobState(WAITING, note, begun)
    if run.cluster and not entry.local:
        written = _modified(job["log"]) if job["log"] else None
        if written is None or written < begun - CLOCKS:
            return JobState(WAITING, "submitted; its program has not begun", begun)
    if job["training"] and job["training"]["state"]:
        owner = Path(job["training"]["state"]) / "owner"
        named = _modified(owner)
        # It is named when the training begins and removed at the end, so this one was killed.
        ended = named is not None and named >= begun - TICK and is_held(owner) is False
        # The file may have been removed in between.
        if ended and owner.exists():
            return JobState(WAITING, "its process has ended; Snakemake has not noticed yet", begun)
    return JobState(RUNNING, "", begun)


def state_of(job, runs, planned):
    """The `JobState` of a job of `job_list.jobs_of`, without its curve.

    ``runs``: of `run_journal.read_runs`; ``planned``: when the plan was begun, in seconds since 1970.
    """
    run, entry = _newest(runs, job["outputs"][0])
    if entry is not None and entry.state == "started":
        found = _of_entry(job, run, entry)
        # A plan that is newer than a dead run knows better.
        if found.state == RUNNING or job["needs"] or entry.begun >= planned:
            return _owned(job, found)
    if entry is not None and entry.state == "finished":
        there = all(os.path.lexists(path) for path in job["outputs"])
        if there and (not job["needs"] or entry.ended >= planned):
            return JobState(DONE, "", entry.begun, entry.ended)
    if not job["needs"]:
        return JobState(DONE)
    if entry is not None and entry.state == "failed":
        return _owned(job, JobState(FAILED, "", entry.begun, entry.ended))
    return _owned(job, JobState(WAITING))


def _owned(job, found):
    """A training that goes on although its Snakemake ended is running: it holds the lock of its state."""
    if found.state == RUNNING or not (job["training"] and job["training"]["state"]):
        return found
    owner = Path(job["training"]["state"]) / "owner"
    if is_held(owner):
        begun = found.begun or _modified(owner)
        return JobState(RUNNING, "no Snakemake waits for it: it goes on by itself", begun)
    return found


def follow(job, found):
    """Add the curve or the logged epochs of a training to its `JobState`."""
    facts = job["training"]
    if not facts or (found.state == WAITING and not found.begun):
        return found
    if facts["curves"]:
        # The finished curve replaces the live one.
        for path in reversed(facts["curves"]) if found.state == DONE else facts["curves"]:
            found.rows, found.moved = read_curve(path)
            if found.rows:
                break
        found.epochs = max((row.epoch for row in found.rows), default=0)
    elif found.state == RUNNING:
        found.epochs, found.moved = logged_epochs(job["log"], found.begun or 0)
    if found.state == DONE and job["work"]:
        found.epochs = job["work"]["epochs"]
    return found


def states_of(jobs, runs, planned):
    """[JobState] of all jobs, in their order."""
    return [follow(job, state_of(job, runs, planned)) for job in jobs]


def counts(states):
    """{state: number of jobs}."""
    found = dict.fromkeys(STATES, 0)
    for one in states:
        found[one.state] += 1
    return found


def slots(runs, cores=None, gpu=None):
    """(slots of cores, of GPUs, where that is from): how many jobs run side by side.

    Of the newest living Snakemake, else of ``cores`` and ``gpu``, else this machine's. On a cluster a
    job takes one slot of the queue. GPUs None: unlimited.
    """
    alive = [run for run in runs if run.alive]
    if alive:
        run = max(alive, key=lambda one: one.begun)
        if run.cluster:
            words = "jobs in the queue of the running Snakemake, each with its own node or card"
            return run.nodes or MANY, None, words
        return run.cores or MANY, run.gpu, "cores and GPU slots of the running Snakemake"
    words = "no Snakemake runs: as if it began now on this machine"
    return cores or os.cpu_count() or 1, gpu, words
