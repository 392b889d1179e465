"""What a running Snakemake tells about its jobs: a line of JSON per event, in a file that it keeps locked.

Snakemake hands records with these facts to its log handlers. As long as the process lives it holds the
lock of its journal, so that a killed one is recognised at once, on any machine that shares the disk.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

from dmlstudy.core.held_locks import is_held

FOLDER = Path(".snakemake", "dml-runs")
# Journals of ended runs that are kept: each holds some hundred bytes per job.
KEPT = 20
# Snakemake's names of events, and ours.
EVENTS = {"job_info": "started", "job_finished": "finished", "job_error": "failed"}


class RunJournal(logging.Handler):
    """A handler of Snakemake's logger that writes the journal of this process.

    A disk that is full or read-only costs the journal, never the workflow.
    """

    def __init__(self):
        super().__init__(logging.INFO)
        self.stream = None

    def begin(self, logger, facts):
        """Open the journal, lock it until this process ends, and listen to ``logger``.

        ``facts``: {"cores", "gpu", "nodes"}: how many jobs may run side by side; None where unlimited.
        """
        with contextlib.suppress(OSError):
            FOLDER.mkdir(parents=True, exist_ok=True)
            _remove_old()
            name = f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}.jsonl"
            # Unbuffered: a disk that is full must not be told at the end of the process.
            self.stream = open(FOLDER / name, "wb", buffering=0)  # noqa: SIM115
            # Without locks, readers ask whether the process exists.
            with contextlib.suppress(OSError):
                fcntl.flock(self.stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write("begun", host=socket.gethostname(), process=os.getpid(), **facts)
            logger.addHandler(self)

    def emit(self, record):
        event = EVENTS.get(str(getattr(record, "event", "")))
        if event is None:
            return
        # Snakemake names the id differently in its events.
        job = getattr(record, "jobid", getattr(record, "job_id", None))
        more = {}
        if event == "started":
            more = {"outputs": list(map(str, record.output)), "local": bool(record.local)}
        self._write(event, job=job, **more)

    def _write(self, event, **values):
        with contextlib.suppress(OSError, ValueError):
            line = json.dumps({"event": event, "time": time.time(), **values}) + "\n"
            self.stream.write(line.encode())


def _remove_old():
    for path in sorted(FOLDER.glob("*.jsonl"))[:-KEPT]:
        if is_held(path) is False:
            path.unlink(missing_ok=True)


@dataclass
class Entry:
    """The newest attempt of a job in a run. Times in seconds since 1970; ``ended`` None while it runs.

    ``state``: "started", "finished" or "failed"; ``outputs``: paths; ``local``: whether the job runs where
    Snakemake runs.
    """

    state: str
    outputs: list
    begun: float
    ended: float | None = None
    local: bool = True


@dataclass
class Run:
    """What a journal says. ``alive``: whether its Snakemake lives, None if that cannot be known from here."""

    path: Path
    alive: bool | None
    host: str = ""
    process: int = 0
    begun: float = 0.0
    cores: int | None = None
    gpu: int | None = None
    nodes: int | None = None
    entries: dict = field(default_factory=dict)


def _lines(path):
    """The values of a journal, without a line that is written just now or damaged."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("time"), (int, float)):
                yield value


def _alive(path, host, process):
    held = is_held(path)
    if held is None and host == socket.gethostname():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return held


def read_run(path):
    """The `Run` of a journal, or None if it says nothing yet. ``entries``: {first output: `Entry`}."""
    run, by_job = None, {}
    for value in _lines(path):
        event, job = value.get("event"), value.get("job")
        if event == "begun" and run is None:
            facts = {key: value.get(key) for key in ("host", "process", "cores", "gpu", "nodes")}
            alive = _alive(path, facts["host"], facts["process"] or 0)
            run = Run(path, alive, begun=value["time"], **facts)
        elif run is None:
            continue
        elif event == "started" and value.get("outputs"):
            outputs = list(map(str, value["outputs"]))
            by_job[job] = Entry("started", outputs, value["time"], local=bool(value.get("local")))
            run.entries[outputs[0]] = by_job[job]
        elif event in ("finished", "failed") and job in by_job:
            by_job[job].state, by_job[job].ended = event, value["time"]
    return run


def read_runs(folder=FOLDER):
    """All journals as `Run`s, oldest first. A journal that vanishes meanwhile is left out."""
    runs = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):
            run = read_run(path)
            if run is not None:
                runs.append(run)
    return runs
