"""On the other machine: unpack, make packs, train as many runs as the time holds, hand back results.

It imports nothing that such a machine may lack; each training is a process of the program train.py.
"""

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError, read_json, write_json
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.elsewhere import job as jobs
from dmlstudy.elsewhere import parts

MIB = 2**20
# A training that is told to end does so at once; this is for one that hangs.
ENDING_SECONDS = 20
POLL_SECONDS = 0.05


class Clock:
    """The time of one call. ``seconds``: how long it may take; `stop` ends it at once."""

    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def left(self):
        return self.end - time.monotonic()

    def stop(self):
        self.end = time.monotonic()


class Machine:
    """What this machine keeps between calls, in the folder ``store``.

    parts/: what arrived so far; study/: the unpacked job; site/: installed wheels; packs/, results/,
    logs/. ``state.json``: runs that failed, and what was handed back.
    """

    def __init__(self, store, clock, *, threads=None, at_once=1):
        self.store, self.clock, self.at_once = Path(store).absolute(), clock, at_once
        self.threads = threads or os.cpu_count()
        self.study, self.results = self.store / "study", self.store / "results"
        path = self.store / "state.json"
        self.state = read_json(path) if path.is_file() else {}
        self.state = {"failed": {}, "handed_back": [], "calls": 0, **self.state}
        self._remembering = threading.Lock()

    def remember(self):
        write_json(self.store / "state.json", self.state)

    def receive(self, folders):
        """Take the parts in ``folders``; returns the names of those that are still missing."""
        kept = self.store / "parts"
        own = kept / f"{jobs.CARRIED}.json"
        for folder in folders:
            index = parts.index_of(folder, jobs.CARRIED)
            if own.is_file() and read_json(own) != index:
                raise StudyError(
                    f"{folder}: belongs to other trainings than {self.store} does; use another --store"
                )
            write_json(own, index)
            if not self.study.is_dir():
                parts.take(folder, kept, index)
        if self.study.is_dir():
            return []
        if not own.is_file():
            raise StudyError(f"{self.store}: nothing has arrived yet; give --carried FOLDER")
        index = read_json(own)
        absent = parts.missing(kept, index)
        if not absent:
            parts.unpack(kept, index, self.study)
            for part in index["parts"]:
                (kept / part["name"]).unlink()
        return absent

    def job(self):
        """The unpacked job; StudyError if the programs here are not those that it was made with."""
        job = jobs.read(self.study)
        if job["programs"] != jobs.program_files():
            raise StudyError(
                "the programs in this folder are not those that the trainings were prepared with; bring "
                "that version, or prepare again"
            )
        return job

    def environment(self):
        """Variables for programs. Carried wheels are installed once, into a folder of their own."""
        site, wheels = self.store / "site", sorted((self.study / "wheels").glob("*.whl"))
        if wheels and not site.is_dir():
            temporary = self.store / ".site"
            shutil.rmtree(temporary, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
            command += ["--disable-pip-version-check", "--target", str(temporary)]
            self._checked([*command, *map(str, wheels)], "install wheels")
            temporary.rename(site)
        before = os.environ.get("PYTHONPATH")
        paths = [*([str(site)] if wheels else []), *([before] if before else [])]
        return {**os.environ, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": os.pathsep.join(paths)}

    def _checked(self, command, what, env=None):
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if done.returncode:
            raise StudyError(f"{what}: {last_line(done.stderr)}")

    def pack(self, job, environment):
        """Make the packs that are not there yet."""
        for resize in job["packs"]:
            folder = self.store / "packs" / f"pack_{resize}"
            if folder.is_dir():
                continue
            begun = time.monotonic()
            command = [sys.executable, str(PROGRAMS / "pack.py"), "--resize", resize]
            command += ["--images", str(self.study / "images"), "--out", str(folder)]
            command += ["--manifest", str(self.study / "manifest.csv")]
            command += ["--max-pixels", str(job["max_pixels"]), "--threads", str(self.threads)]
            self._checked(command, f"pack {resize}", environment)
            print(f"pack {resize}: {time.monotonic() - begun:.0f} s", flush=True)

    # Trainings.

    def finished(self, run):
        folder = self.results / jobs.place(run)
        return all((folder / name).is_file() for name in (*jobs.OUTPUTS, jobs.MODEL))

    def train_all(self, job, environment, least_seconds):
        """Train runs in the job's order until the time is used up."""
        pending = [
            run
            for run in job["runs"]
            if not self.finished(run) and jobs.place(run) not in self.state["failed"]
        ]

        def one(run):
            if self.clock.left() >= least_seconds:
                self.train(job, run, environment)

        with ThreadPoolExecutor(self.at_once) as pool:
            for _ in pool.map(one, pending):
                pass

    def train(self, job, run, environment):
        """Train one run to its end, or until the time is used up; then its state is kept."""
        name, begun = jobs.place(run), time.monotonic()
        folder, log = self.results / name, self.store / "logs" / f"{name.replace('/', '_')}.log"
        packs = {
            part: str(self.store / "packs" / f"pack_{run[part]}") for part in ("train", "test")
        }
        command = [sys.executable, str(PROGRAMS / "train.py"), "--name", run["experiment"]]
        command += ["--recipe", canonical_json(run["recipe"]), "--code", run["code"]]
        command += ["--manifest", str(self.study / "manifest.csv")]
        command += ["--split", str(self.study / "split.csv")]
        command += ["--class-set", str(self.study / "class_sets" / f"{run['class_set']}.csv")]
        command += ["--train-pack", packs["train"], "--test-pack", packs["test"]]
        command += ["--checkpoint-every", str(job["checkpoint_every"])]
        command += ["--out", str(folder), "--log", str(log)]
        if run["weights"]:
            command += ["--weights", str(self.study / run["weights"])]
        output = log.with_suffix(".out")
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output, "w", encoding="utf-8") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
            code = self._wait(process)
        seconds = time.monotonic() - begun
        if code == 0:
            print(f"{name}: finished, {seconds:.0f} s in this call", flush=True)
        elif code is None:
            print(f"{name}: not finished, {self.epochs(run)} epochs so far", flush=True)
        else:
            # Whatever bytes it wrote, and perhaps killed in the middle of a letter.
            why = last_line(output.read_text(encoding="utf-8", errors="replace"))
            with self._remembering:
                self.state["failed"][name] = why
                self.remember()
            print(f"{name}: failed: {why}", flush=True)

    def _wait(self, process):
        """The exit code of a training; None if the time was used up and it was told to end."""
        while process.poll() is None and self.clock.left() > 0:
            time.sleep(POLL_SECONDS)
        if process.poll() is not None:
            return process.returncode
        process.terminate()
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # It may have finished meanwhile.
        return 0 if process.returncode == 0 else None

    def epochs(self, run):
        """Epochs of a run's curve so far."""
        folder = self.results / jobs.place(run)
        for path in (folder / "curves.csv", folder / "state" / "curves.csv"):
            if path.is_file():
                return int(path.read_text(encoding="utf-8").split()[-1].partition(",")[0])
        return 0

    # What comes back.

    def hand_back(self, job, folder, *, part_bytes, total_bytes, models=True, again=False):
        """Write what was not handed back yet to ``folder``, as far as it fits; returns the summary.

        Results of runs go first, in the job's order; what is left of the room is for their models.
        """
        state = self.state
        if again:
            state["handed_back"] = []
        files, room, left_out = {}, total_bytes - parts.END_BYTES, []
        done = [run for run in job["runs"] if self.finished(run)]
        chosen = []
        for names in (jobs.OUTPUTS, (jobs.MODEL,))[: 2 if models else 1]:
            for run in done:
                own = {f"{jobs.place(run)}/{name}": name for name in names}
                key = next(iter(own))
                if key in state["handed_back"]:
                    continue
                paths = {member: self.results / member for member in own}
                size = sum(map(parts.size_of, paths.values()))
                if size > room:
                    left_out.append(f"{key} ({size / MIB:.1f} MiB)")
                    continue
                room -= size
                files |= paths
                chosen.append(key)
        state["calls"] += 1
        summary = {
            "job": job["id"],
            "call": state["calls"],
            "left_there": left_out,
            "runs": [self._of_run(run) for run in job["runs"]],
        }
        name = f"{jobs.BACK}_{state['calls']}"
        parts.write_parts(folder, name, files, part_bytes, about=summary)
        state["handed_back"] += chosen
        self.remember()
        return summary

    def _of_run(self, run):
        name = jobs.place(run)
        if name in self.state["failed"]:
            how = "failed"
        elif self.finished(run):
            how = "finished"
        else:
            how = "unfinished" if self.epochs(run) else "waiting"
        cost = self.results / name / "cost.json"
        return {
            **{key: run[key] for key in ("experiment", "seed", "class_set")},
            "state": how,
            "epochs": self.epochs(run),
            "of_epochs": run["recipe"]["epochs"],
            "why": self.state["failed"].get(name, ""),
            "cost": read_json(cost) if how == "finished" else {},
        }


def last_line(text):
    """The last line of a program's output that says anything."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def run(store, carried, back, clock, **options):
    """One call on the other machine; returns the summary, or None while parts are missing.

    ``carried``: folders of parts that came with this call; ``back``: folder for what is handed back.
    Further options: ``threads``, ``at_once``, ``least_seconds``, ``retry``, and those of
    `Machine.hand_back`.
    """
    machine = Machine(
        store, clock, threads=options.pop("threads", None), at_once=options.pop("at_once", 1)
    )
    absent = machine.receive(carried)
    if absent:
        print(f"arrived so far; still missing: {', '.join(absent)}")
        return None
    job = machine.job()
    if options.pop("retry", False):
        machine.state["failed"] = {}
    least_seconds = options.pop("least_seconds", 0)
    environment = machine.environment()
    machine.pack(job, environment)
    machine.train_all(job, environment, least_seconds)
    summary = machine.hand_back(job, back, **options)
    for one in summary["left_there"]:
        logging.warning("not handed back, there is no room in this call: %s", one)
    return summary
