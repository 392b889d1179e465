"""Programs that are started by fork servers behave as if they were started directly."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import psutil
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS))

import start

# `start.py` with a group whose package is imported fast: most tests here need a server of their own.
NAME = "report.py"
START = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
import start
start.GROUPS["pages"] = (start.GROUPS["pages"][0], ("colorsys",))
start.main(*sys.argv[1:])
"""
TELL = """
import json, os, random, sys
umask = os.umask(0)
json.dump([sys.argv, os.getcwd(), os.environ["PIECE"], umask, "colorsys" in sys.modules], sys.stdout)
print("a warning", file=sys.stderr)
sys.exit(7)
"""
WAIT = """
import sys, time
print("begun", flush=True)
time.sleep(600)
"""


MAP = """
import runpy, sys, umap
folder = sys.argv.pop()
print(len(umap.umap_.smooth_knn_dist.signatures), flush=True)
sys.path.insert(0, folder)
runpy.run_path(folder + "/map_embeddings.py", run_name="__main__")
"""


class Starter:
    """Starts programs with fork servers that work for a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.owner = subprocess.Popen(["sleep", "600"])
        self.setting = f"test-{uuid.uuid4().hex}:{self.owner.pid}"

    def popen(self, text, *arguments, name=NAME, **options):
        program = self.folder / name
        if not program.exists() or program.read_text() != text:
            # Never while another process reads it.
            program.write_text(text)
        environment = {**os.environ, "DML_FORK_SERVER": self.setting, "PIECE": "a\udcffb"}
        return subprocess.Popen(
            [sys.executable, "-S", "-c", START, str(program), *arguments],
            **{
                "env": environment,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "cwd": self.folder,
                "umask": 0o027,
                # `nohup make test` ignores this signal, and so would all that it starts.
                "preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
                **options,
            },
        )

    def servers(self):
        return [process for process in self._forks() if process.info["name"] != NAME]

    def programs(self):
        return [process for process in self._forks() if process.info["name"] == NAME]

    def _forks(self):
        """Servers and their programs, whose command line stays that of the server."""
        found = psutil.process_iter(["cmdline", "name"])
        return [p for p in found if str(self.owner.pid) in (p.info["cmdline"] or [])]


@pytest.fixture
def starter(tmp_path):
    starter = Starter(tmp_path)
    yield starter
    servers = starter.servers()
    starter.owner.kill()
    starter.owner.wait()
    psutil.wait_procs(servers, timeout=60)
    assert starter.servers() == []


def begun(starter):
    process = starter.popen(WAIT)
    assert process.stdout.readline() == "begun\n"
    (program,) = starter.programs()
    return process, program


def test_a_program_is_started_as_python_starts_it(starter):
    """Would catch other arguments, folder, environment, umask, streams or exit code, or no fork."""
    for _ in range(2):
        process = starter.popen(TELL, "--log", "a b", "ü")
        output, errors = process.communicate()
        assert process.returncode == 7
        assert errors == "a warning\n"
        program = str(starter.folder / NAME)
        expected = [[program, "--log", "a b", "ü"], str(starter.folder), "a\udcffb", 0o027, True]
        assert json.loads(output) == expected
    assert len(starter.servers()) == 1


def test_without_the_variable_and_for_other_programs_no_server_starts(starter):
    """Would catch a server for a program that starts fast, or one that nobody ends."""
    for name, setting in (("claim.py", starter.setting), (NAME, "")):
        process = starter.popen(
            TELL, name=name, env={**os.environ, "DML_FORK_SERVER": setting, "PIECE": "x"}
        )
        output, _ = process.communicate()
        assert process.returncode == 7
        assert output.endswith("false]")
    assert starter.servers() == []


def test_maps_of_forks_are_those_of_python(starter):
    """Would catch forks that compile UMAP anew, and threads or numbers of the server that get into a map."""
    rng = np.random.default_rng(0)
    arrays = {"gallery_image_ids": np.arange(60), "query_image_ids": np.arange(60, 80)}
    for part, count in (("gallery", 60), ("query", 20)):
        vectors = rng.standard_normal((count, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        arrays[f"{part}_embeddings"] = vectors
    classes = "".join(f"{image},{image % 4}\n" for image in range(80))
    (starter.folder / "manifest.csv").write_text(f"image_id,class_id\n{classes}")
    started = {}
    for run, setting in (("forked", starter.setting), ("beside", starter.setting), ("direct", "")):
        (starter.folder / run).mkdir()
        np.savez(starter.folder / run / "embeddings.npz", **arrays)
        environment = {**os.environ, "DML_FORK_SERVER": setting, "OMP_NUM_THREADS": "1"}
        options = ["--runs", run, "--manifest", "manifest.csv", "--seed", "3", str(SCRIPTS)]
        started[run] = starter.popen(MAP, *options, name="map_embeddings.py", env=environment)
    compiled, maps = {}, {}
    for run, process in started.items():
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        compiled[run] = output.split()
        maps[run] = (starter.folder / run / "map.csv").read_bytes()
    assert compiled["direct"] == ["0"]
    assert compiled["forked"] == compiled["beside"] == ["1"]
    assert maps["forked"] == maps["beside"] == maps["direct"]


def test_many_at_once_share_one_server(starter):
    """Would catch a race of the first programs, and answers that reach the wrong one."""
    text = "import sys; print(sys.argv[1]); sys.exit(int(sys.argv[1]))"
    processes = [starter.popen(text, str(number)) for number in range(12)]
    outputs = [process.communicate()[0] for process in processes]
    assert outputs == [f"{number}\n" for number in range(12)]
    assert [process.returncode for process in processes] == list(range(12))
    assert len(starter.servers()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program(starter, number):
    """Would catch a program that goes on after its job was cancelled."""
    process, program = begun(starter)
    process.send_signal(number)
    assert process.wait(60) == -number
    psutil.wait_procs([program], timeout=60)
    assert not program.is_running()


def test_a_killed_job_takes_its_program_along(starter):
    """Would catch a program that writes its outputs beside its second attempt."""
    process, program = begun(starter)
    process.kill()
    process.wait()
    psutil.wait_procs([program], timeout=60)
    assert not program.is_running()


def test_a_killed_program_is_told(starter):
    """Would catch a job that waits for ever, or ends well, after the kernel killed its program."""
    process, program = begun(starter)
    program.kill()
    assert process.wait(60) == -signal.SIGKILL


def test_after_a_killed_server_the_next_program_starts(starter):
    """Would catch programs that outlive their server, jobs that hang, and an address that stays taken."""
    process, program = begun(starter)
    (server,) = starter.servers()
    server.kill()
    assert process.wait(60) == 1
    assert "fork server was killed" in process.stderr.read()
    psutil.wait_procs([program], timeout=60)
    assert not program.is_running()
    again = starter.popen(TELL)
    again.communicate()
    assert again.returncode == 7


def test_programs_outlive_the_process_that_the_server_works_for(starter):
    """Would catch a job that ends with a killed Snakemake, which directly started jobs do not."""
    process, program = begun(starter)
    starter.owner.kill()
    starter.owner.wait()
    time.sleep(2)
    assert program.is_running()
    program.terminate()
    assert process.wait(60) == -signal.SIGTERM


def test_a_server_without_work_ends_after_as_many_seconds_as_it_is_told(starter, monkeypatch):
    """Would catch a variable that nobody reads: a server that stays for the usual minute."""
    monkeypatch.setenv("DML_FORK_SERVER_IDLE", "1")
    starter.popen(TELL).communicate()
    # Without the variable, it would stay for a minute.
    psutil.wait_procs(starter.servers(), timeout=50)
    assert starter.servers() == []


def test_groups_name_programs_and_packages_that_exist():
    """Would catch a renamed program or package, for which servers would end at their start."""
    for programs, packages in start.GROUPS.values():
        for program in programs:
            assert (SCRIPTS / program).exists()
        for package in packages:
            assert importlib.util.find_spec(package.partition(".")[0]), package


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("import sys; sys.exit('no such file')", 1, "no such file"),
        ("raise ValueError('of a program')", 1, "ValueError: of a program"),
        ("import atexit; atexit.register(print, 'last')", 0, ""),
        ("import threading, time; threading.Timer(1, print, ['last']).start()", 0, ""),
    ],
)
def test_ends_as_python_ends(starter, text, code, said):
    """Would catch a lost exit code or message, and exit functions or threads that are cut off."""
    process = starter.popen(text)
    output, errors = process.communicate()
    assert process.returncode == code
    assert said in errors
    assert output == ("" if code else "last\n")
