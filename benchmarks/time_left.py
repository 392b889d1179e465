"""How far off the time left is that `watch.py` says, at one third of a small drawn study.

    .venv/bin/python benchmarks/time_left.py [--rounds 3] [--estimate]

Runs the study with Snakemake, each time in a new folder, and asks the watch every few seconds. At the end it
is known how long the study still took at each moment. With --estimate, `make estimate` is run before.
"""

import argparse
import os
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
from measuring import (
    PROGRAMS,
    PROJECT,
    add_results_option,
    at_least_one,
    drawn_dataset,
    machine,
    write_results,
)

from dmlstudy.plan.snapshot import measured_jobs

# Six trainings, beside their evaluation, tables and pages.
STUDY = {
    "results_dir": "results/drawn",
    "dataset": drawn_dataset(10, 16, 72, 3, classes_per_genus=2),
    "other_datasets": {},
    "device": "cpu",
    "untrained": {"backbones": []},
    "baseline": "EPSHN_cosine_resnet18_scratch_sgd_aug",
    "experiments": {
        "scratch_proxies": {
            "like": "EPSHN_cosine_resnet18_scratch_sgd_aug",
            "loss": {"kind": "proxy_nca"},
        },
        "scratch_arcface": {
            "like": "EPSHN_cosine_resnet18_scratch_sgd_aug",
            "loss": {"kind": "arcface"},
        },
    },
    "only": ["EPSHN_cosine_resnet18_scratch_sgd_aug", "scratch_proxies", "scratch_arcface"],
    "protocol": {
        "image_size": 64,
        "unseen_classes": 2,
        "test_share": 0.25,
        "epochs": 8,
        "batch_size": 16,
        "compute_threads": 1,
    },
}  # fmt: skip


THIRD = 1 / 3
SHARES = (0.1, 0.2, THIRD, 0.5, 0.75)


def one_round(cores, epochs, with_estimate):
    """[(seconds since the start, seconds left as the watch says or None)], whole seconds, {rule: mean seconds}."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Snakefile", "config", "workflow", "profiles"):
            source = PROJECT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, Path(folder) / name)
        study = {**STUDY, "protocol": {**STUDY["protocol"], "epochs": epochs}}
        Path(folder, "drawn.yaml").write_text(yaml.safe_dump(study))
        before = Path.cwd()
        os.chdir(folder)
        try:
            options = ["--configfile", "drawn.yaml"]
            if with_estimate:
                command = [
                    sys.executable,
                    "workflow/scripts/estimate.py",
                    *options,
                    "--seconds",
                    "1",
                ]
                subprocess.run(command, check=True, capture_output=True)
            watch = runpy.run_path(str(PROGRAMS / "watch.py"))["Watch"](options, cores=cores)
            # The plan is made before, so that it takes nothing of the study's time.
            watch.take()
            return *followed(watch, cores, options), seconds_by_rule(watch.take())
        finally:
            os.chdir(before)


def seconds_by_rule(found):
    """{rule: mean seconds of its jobs} of a finished `Snapshot`."""
    times = {}
    for one in measured_jobs(found.plan["jobs"], found.states):
        times.setdefault(one.rule, []).append(one.seconds)
    return {rule: statistics.mean(seconds) for rule, seconds in sorted(times.items())}


def followed(watch, cores, options):
    """[(seconds since the start, seconds left or None)] and whole seconds of one study."""
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *options]
    begun, said = time.monotonic(), []
    with open("output", "w") as output:
        study = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        while study.poll() is None:
            found = watch.take()
            said.append((time.monotonic() - begun, found.left))
            time.sleep(1)
    finally:
        study.kill()
        study.wait()
    if study.returncode:
        sys.exit(Path("output").read_text()[-3000:])
    return said, time.monotonic() - begun


def error_at(said, whole, share):
    """Relative error of the time left at a share of the whole time: (said - true) / true; None if unknown."""
    moment, left = min(said, key=lambda one: abs(one[0] - share * whole))
    return None if left is None else (left - (whole - moment)) / (whole - moment)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--cores", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--epochs", type=at_least_one, default=8)
    parser.add_argument("--estimate", action="store_true", help="run make estimate before")
    add_results_option(parser)
    args = parser.parse_args()
    lines, rows = [machine()], []
    for number in range(1, args.rounds + 1):
        said, whole, by_rule = one_round(args.cores, args.epochs, args.estimate)
        errors = {share: error_at(said, whole, share) for share in SHARES}
        rows.append({"round": number, "seconds": whole, **errors})
        shown = ", ".join(
            f"at {share:.0%} {'unknown' if one is None else f'{one:+.0%}'}"
            for share, one in errors.items()
        )
        lines.append(f"round {number}: {whole:.0f} s; error of the time left: {shown}")
        print(lines[-1], file=sys.stderr, flush=True)
    known = [abs(row[THIRD]) for row in rows if row[THIRD] is not None]
    middle = f"{statistics.median(known):.0%}" if known else "unknown"
    lines.append(
        f"median error at one third: {middle}; {len(known)} of {len(rows)} rounds knew a time"
    )
    # What `plan.rule_seconds` holds.
    lines += [f"{rule}: {seconds:.1f} s" for rule, seconds in by_rule.items()]
    write_results(args.results, "time_left", "\n".join(lines), rows)


if __name__ == "__main__":
    main()
