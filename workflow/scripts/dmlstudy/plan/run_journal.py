"""What a running Snakemake tells about its jobs: a line of JSON per event, in a file that it keeps locked.

Snakemake hands records with these facts to its log handlers. As long as the process lives it holds the
lock of its journal, so that a killed one is recognised at once, on any machine that shares the disk.
"""

import contextlib
import fcntl
import functools
import json
import logging
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from dmlstudy.core.held_locks import is_held

FOLDER = Path(".snakemake", "dml-runs")
# Journals of ended runs that are kept: each holds some hundred bytes per job.
KEPT = 20
# Snakemake's names of events, and ours.
FACTS = ("host", "process", "cluster", "cores", "gpu", "nodes")
EVENTS = {"job_info": "started", "job_finished": "finished", "job_error": "failed"}


def limits(workflow):
    """How many jobs a workflow of Snakemake runs side by side: {"cluster", "cores", "gpu", "nodes"}.

    Numbers, None where unlimited. On a cluster, ``nodes`` is the number of jobs in its queue.
    """

    def number(name):
        found = workflow.global_resources.get(name)
        found = getattr(found, "value", found)
        # Snakemake's word for unlimited is the largest integer.
        return found if isinstance(found, int) and found < sys.maxsize else None

    cluster = not workflow.local_exec
    return {
        "cluster": cluster,
        "cores": None if cluster else number("_cores"),
        "gpu": number("gpu"),
        "nodes": number("_nodes") if cluster else None,
    }


class RunJournal(logging.Handler):
    """A handler of Snakemake's logger that writes the journal of this process.

    A disk that is full or read-only costs the journal, never the workflow.
    """

    def __init__(self):
        super().__init__(logging.INFO)
        self.stream = None

    def begin(self, logger, facts):
        """Open the journal, lock it until this process ends, and listen to ``logger``.

        ``facts``: of `limits`.
        """
        with contextlib.suppress(OSError):
            FOLDER.mkdir(parents=True, exist_ok=True)
            _remove_old()
            name = f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}.jsonl"
            # Unbuffered: a disk that is full must not be told at the end of the process.
            self.stream = open(FOLDER / name, "wb", buffering=0)  # noqa: SIM115
            # A reader may hold it for microseconds. Without locks, readers ask whether the process exists.
            with contextlib.suppress(OSError):
                fcntl.flock(self.stream, fcntl.LOCK_EX)
            self._write("begun", host=socket.gethostname(), process=os.getpid(), **facts)
            logger.addHandler(self)

    def emit(self, record):
        try:
            self._emit(record)
        except Exception:
            # As the handlers of the standard library do: the one who logs must not fail.
            self.handleError(record)

    def _emit(self, record):
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
    host: str | None = None
    process: int | None = None
    begun: float = 0.0
    cluster: bool | None = False
    cores: int | None = None
    gpu: int | None = None
    nodes: int | None = None
    entries: dict = field(default_factory=dict)


def _values(path):
    """The values of a journal, without a line that is written just now or damaged."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict) and isinstance(value.get("time"), (int, float)):
                yield value


@functools.lru_cache(maxsize=2 * KEPT)
def _parsed(path, stamp):
    """(facts, {first output: `Entry`}) of a journal; facts None if it says nothing yet.

    ``stamp``: changes whenever the file does. Most journals are of runs that ended long ago.
    """
    facts, by_job, entries = None, {}, {}
    for value in _values(path):
        event, job = value.get("event"), value.get("job")
        if event == "begun" and facts is None:
            facts = {key: value.get(key) for key in FACTS}
            facts["begun"] = value["time"]
        elif event == "started" and value.get("outputs"):
            outputs = list(map(str, value["outputs"]))
            by_job[job] = Entry("started", outputs, value["time"], local=bool(value.get("local")))
            entries[outputs[0]] = by_job[job]
        elif event in ("finished", "failed") and job in by_job:
            by_job[job].state, by_job[job].ended = event, value["time"]
    return facts, entries


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
    """The `Run` of a journal, or None if it says nothing yet. Its entries must not be changed."""
    status = path.stat()
    facts, entries = _parsed(path, (status.st_size, status.st_mtime_ns))
    if facts is None:
        return None
    alive = _alive(path, facts["host"], facts["process"] or 0)
    return Run(path, alive, **facts, entries=entries)


def read_runs(folder=FOLDER):
    """All journals as `Run`s, oldest first. A journal that vanishes meanwhile is left out."""
    runs = []
    for path in sorted(Path(folder).glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):
            run = read_run(path)
            if run is not None:
                runs.append(run)
    return runs
