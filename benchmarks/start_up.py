"""Start-up time and memory of each program, compared with Python alone.

    .venv/bin/python benchmarks/start_up.py [--rounds 5]

Runs each program with --help, which imports its top-level modules. Programs that only build tables or
pages must not import torch and must take less than 2 s; otherwise the exit code is 1. Also measures how
long a fork server takes to start a program, compared with starting it directly.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from measuring import PROGRAMS, add_results_option, machine, write_results

sys.path.insert(0, str(PROGRAMS))

import start

# Programs that train, embed or compute heat maps import torch; all others start without it.
WITH_TORCH = {
    "enrol",
    "estimate",
    "explain",
    "index_gallery",
    "name_photos",
    "pretrain",
    "train",
    "try_candidate",
}
LIMIT = 2.0
ASK = """
import runpy, sys
sys.argv = [{path!r}, "--help"]
sys.path.insert(0, {folder!r})
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit:
    pass
print("torch" in sys.modules, file=sys.stderr)
"""


def begin(command, **environment):
    """(seconds, CPU seconds, peak MB) of a command."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        list(map(str, command)),
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} ended with {status}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss / unit


def imports_torch(path):
    code = ASK.format(path=str(path), folder=str(PROGRAMS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.split()[-1] == "True"


def fork_servers(rounds):
    """{group of programs: (median seconds of a direct start, of a fork)}, with the group's packages."""
    found = {}
    setting = f"benchmark-{uuid.uuid4().hex}:{os.getpid()}"
    with tempfile.TemporaryDirectory() as folder:
        for group, (programs, packages) in start.GROUPS.items():
            program = Path(folder, programs[0])
            program.write_text(f"import {', '.join(packages)}\n")
            forked = [sys.executable, "-S", PROGRAMS / "start.py", program]
            seconds = [
                (
                    begin([sys.executable, program])[0],
                    begin(forked, DML_FORK_SERVER=setting)[0],
                )
                for _ in range(rounds + 1)
            ]
            # The first round starts the server.
            found[group] = tuple(map(statistics.median, zip(*seconds[1:], strict=True)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    add_results_option(parser)
    args = parser.parse_args()
    commands = {"python -c pass": [sys.executable, "-c", "pass"]}
    programs = sorted(path for path in PROGRAMS.glob("*.py") if path.stem != "start")
    commands |= {path.stem: [sys.executable, path, "--help"] for path in programs}
    found = {name: [] for name in commands}
    for number in range(args.rounds + 1):
        for name, command in commands.items():
            measured = begin(command)
            if number:
                found[name].append(measured)
    rows, failed = [], []
    for name, values in found.items():
        seconds, spent, megabytes = map(statistics.median, zip(*values, strict=True))
        path = PROGRAMS / f"{name}.py"
        torch = path.exists() and imports_torch(path)
        # CPU time, because it does not depend on the load of the machine.
        if name not in WITH_TORCH and (torch or spent > LIMIT):
            failed.append(name)
        rows.append(
            {
                "program": name,
                "seconds": seconds,
                "processor_seconds": spent,
                "peak_mb": megabytes,
                "torch": int(torch),
            }
        )
    lines = [
        machine(),
        "",
        f"{'program':<20}seconds    CPU seconds  peak MB  torch",
        *(
            f"{row['program']:<20}{row['seconds']:>7.2f}  {row['processor_seconds']:>13.2f}"
            f"  {row['peak_mb']:>7.0f}  {'yes' if row['torch'] else 'no':>5}"
            for row in sorted(rows, key=lambda row: row["seconds"])
        ),
        "",
        f"{'DOES NOT HOLD: ' + ', '.join(failed) if failed else 'holds'}: below {LIMIT:.0f} s of "
        "processors, and no torch, where only tables or pages are built",
        "",
        f"{'packages of':<20}seconds directly  from a fork server",
        *(
            f"{group:<20}{direct:>16.2f}  {forked:>18.3f}"
            for group, (direct, forked) in fork_servers(args.rounds).items()
        ),
    ]
    write_results(args.results, "start_up", "\n".join(lines), rows)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
