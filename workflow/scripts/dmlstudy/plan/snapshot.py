"""A study at one moment: states of its jobs, time left, trainings and failures, for a page and a terminal."""

import time
from dataclasses import dataclass, field

from dmlstudy.plan import study_state
from dmlstudy.plan.failures import error_of
from dmlstudy.plan.study_state import CLOCKS, DONE, FAILED, RUNNING
from dmlstudy.plan.time_left import (
    Due,
    Expectations,
    Measured,
    busy_so_far,
    of_running,
    of_running_training,
    seconds_left,
)
from dmlstudy.plan.training_progress import last_lines, read_cost

NO_LOG = (
    "its log is empty: it was ended from outside, or before its program began; what Snakemake prints says "
    "more"
)


@dataclass
class Snapshot:
    """All facts of a page. ``left``: seconds, None if unknown; ``slots``: of `study_state.slots`.

    ``unknown``: number of jobs whose time nothing tells; ``failures``: {"title", "log", "sentence", "lines"};
    ``measured``: number of measured (trainings, other jobs); ``estimated``: whether `make estimate` was run.
    """

    plan: dict
    states: list
    runs: list
    left: float | None
    unknown: int
    slots: tuple
    measured: tuple
    estimated: bool
    failures: list = field(default_factory=list)
    taken: float = field(default_factory=time.time)

    @property
    def counts(self):
        return study_state.counts(self.states)

    @property
    def finished(self):
        return self.counts[DONE] == len(self.states)

    @property
    def alive(self):
        """The newest living run, or None."""
        living = [run for run in self.runs if run.alive]
        return max(living, key=lambda run: run.begun) if living else None


def measured_jobs(jobs, states):
    """[Measured] of jobs that ended in a run with a journal, and of running trainings that have a curve."""
    found = []
    for job, one in zip(jobs, states, strict=True):
        work = job["work"] if job["training"] else None
        if job["training"] and work is None:
            continue
        if one.state == DONE and one.begun is not None and one.ended is not None:
            cost = read_cost(job["training"]["cost"]) if work and job["training"]["cost"] else None
            busy = sum(cost) if cost else None
            found.append(Measured(job["rule"], work, one.ended - one.begun, busy))
    return found


def running_trainings(jobs, states, rest):
    """[Measured] of running trainings with a curve, as if they went on like that. ``rest``: {rule: seconds}."""
    found = []
    for job, one in zip(jobs, states, strict=True):
        if one.state == RUNNING and job["training"] and job["work"] and one.rows:
            rows = [(row.epoch, row.seconds) for row in one.rows]
            busy = busy_so_far(rows, job["work"]["epochs"], job["work"])
            found.append(Measured(job["rule"], job["work"], busy + rest[job["rule"]], busy))
    return found


def due_jobs(jobs, states, expected, moment, cluster=False):
    """({index: Due} of the jobs that are not done, number of jobs whose time nothing tells).

    ``cluster``: whether each job takes one slot, whatever it needs.
    """
    due, unknown = {}, 0
    for index, (job, one) in enumerate(zip(jobs, states, strict=True)):
        if one.state == DONE:
            continue
        work = job["work"] if job["training"] else None
        whole = None if job["training"] and work is None else expected.of(job["rule"], work)
        if whole is None:
            unknown += 1
            whole = 0.0
        running = one.state == RUNNING
        if running:
            if one.rows and work:
                rows = [(row.epoch, row.seconds) for row in one.rows]
                since = max(0.0, moment - one.moved)
                # What comes before the first epoch is over.
                rest = expected.start(job["rule"]) / 2
                whole = of_running_training(rows, work["epochs"], work, since, rest)
            else:
                whole = of_running(whole, moment - (one.begun or moment))
        threads = 1 if cluster else job["threads"]
        due[index] = Due(whole, threads, job["gpu"], tuple(job["after"]), running, job["priority"])
    return due, unknown


def failures_of(jobs, states):
    """What failed, with the sentence and the last lines of its log."""
    found = []
    for job, one in zip(jobs, states, strict=True):
        if one.state != FAILED:
            continue
        # A job that never started leaves the log of an earlier attempt.
        lines = last_lines(job["log"], (one.begun or 0.0) - CLOCKS)
        sentence = error_of(job["log"], one.begun or 0.0)[0] if lines else NO_LOG
        found.append(
            {"title": job["title"], "log": job["log"], "sentence": sentence, "lines": lines}
        )
    return found


def take(plan, runs, planned, estimate=None, cores=None, gpu=None):
    """The `Snapshot` of now. ``plan``: of `job_list.write_jobs`; ``estimate``: of `projection.store_rates`."""
    moment, jobs = time.time(), plan["jobs"]
    states = study_state.states_of(jobs, runs, planned)
    measured = measured_jobs(jobs, states)
    first = Expectations(measured, estimate)
    rest = {job["rule"]: first.start(job["rule"]) for job in jobs if job["training"]}
    trainings = running_trainings(jobs, states, rest)
    expected = Expectations([*measured, *trainings], estimate)
    cluster = any(run.alive and run.cluster for run in runs)
    due, unknown = due_jobs(jobs, states, expected, moment, cluster)
    slots = study_state.slots(runs, cores, gpu)
    left = None if unknown else seconds_left(due, slots[0], slots[1])
    count = sum(one.work is not None for one in measured)
    return Snapshot(
        plan=plan,
        states=states,
        runs=runs,
        left=left,
        unknown=unknown,
        slots=slots,
        measured=(count + len(trainings), len(measured) - count),
        estimated=bool(estimate),
        failures=failures_of(jobs, states),
        taken=moment,
    )


def duration(seconds):
    """A time as words: "40 s", "12 min", "3 h 20 min", "2 days 4 h"."""
    if seconds < 90:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} days {hours % 24} h"


def left_words(snapshot):
    """The time left as words."""
    if snapshot.finished:
        return "finished"
    if snapshot.left is None:
        return "time left not known yet"
    return f"about {duration(snapshot.left)} left"


def line(snapshot):
    """One line for a terminal."""
    found = snapshot.counts
    parts = [f"{found['done']} of {len(snapshot.states)} jobs done"]
    parts += [f"{found['running']} running", f"{found['waiting']} waiting"]
    if found["failed"]:
        parts.append(f"{found['failed']} failed")
    parts.append(left_words(snapshot))
    if snapshot.alive is None and not snapshot.finished and not found["running"]:
        parts.append("no Snakemake runs")
    return " · ".join(parts)
