"""What of the study's speed was not measured on a GPU yet, within ten minutes on one card.

    .venv/bin/python benchmarks/gpu.py                       (all parts)
    .venv/bin/python benchmarks/gpu.py --parts real step     (some, in this order)
    .venv/bin/python benchmarks/gpu.py --wheels wheels       (here: wheels for a machine with little but torch)

- real: training and embedding of ResNet18 from a pack, beside their goals, and the published study's time
- step: candidates for a faster training step, beside today's
- profile: kernels, gaps and memory traffic of a training step, of embedding and of SimCLR
- embed: candidates for a faster evaluation epoch, and the search
- simclr: SimCLR with and without making its views
- together: 1, 2 and 3 trainings on one card
- same: same seed, same card, same weights
- workflow: the workflow from start to finish, each rule beside the estimate; needs Snakemake

Each part has a process of its own, and writes gpu_PART.csv and gpu_PART.txt while it runs. A part that fails is
reported with its traceback, the others go on, and the exit code is 1. --minutes is the limit of all parts
together: what does not fit is left out. The workflow takes longest; give it a run of its own. On a CPU (or
with --small) sizes are tiny and every branch runs; these figures mean nothing.
"""

import argparse
import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
from gpu_setting import TINY, Report, Setting, Worker, machine
from measuring import add_results_option, at_least_one

from dmlstudy.compute.devices import choose_device
from dmlstudy.compute.memory import footprint

# {part: module and function}. The workflow takes longest, so it comes last.
PARTS = {
    "real": ("gpu_study", "real"),
    "step": ("gpu_steps", "steps"),
    "profile": ("gpu_profile", "profile"),
    "embed": ("gpu_embedding", "embedding"),
    "simclr": ("gpu_study", "simclr"),
    "together": ("gpu_study", "together"),
    "same": ("gpu_study", "same"),
    "workflow": ("gpu_study", "workflow"),
}
# Imported once; the parts' processes are forks. Not FAISS, which may look for cards when it is imported.
PACKAGES = (
    *("pandas", "torchvision", "pytorch_metric_learning.losses"),
    *("lightly.models.modules", "lightly.loss", "kornia.enhance", "kornia.filters"),
    "torch._dynamo",
)
# What a machine with torch, torchvision, pandas and scikit-learn lacks.
WHEELS = (
    *("pytorch-metric-learning", "faiss-cpu", "lightly", "kornia", "kornia_rs"),
    *("pydantic", "pydantic-core", "annotated-types", "typing-inspection"),
)
LEFT_OUT = "left out: the time was used up"


def card():
    """(type of the device, name of the card or None)."""
    device = choose_device("auto")
    return device.type, torch.cuda.get_device_name(device) if device.type == "cuda" else None


def import_packages():
    for package in PACKAGES:
        with contextlib.suppress(ImportError):
            importlib.import_module(package)


def card_after_imports():
    """What a fork finds of a process that has imported the packages."""
    import_packages()
    return Worker(card).result(60)


def import_once(found):
    """Import the packages in this process, unless a fork would then not find the card any more.

    ``found``: what `card` gives without them.
    """
    if found[0] == "cpu" or Worker(card_after_imports).result(120) == found:
        import_packages()


def sizes(small):
    """Sizes of a `Setting`: of the study on a GPU, or tiny."""
    if small:
        return {
            "size": 32, "batch": 8, "simclr_batch": 4, "classes": 4, "images_per_class": 5,
            "drawn_size": 40, "steps": 2, "rounds": 1, "epochs": 1, "seconds": 0.0,
        }  # fmt: skip
    return {
        "size": 224, "batch": 128, "simclr_batch": 256, "classes": 200, "images_per_class": 59,
        "drawn_size": 256, "steps": 10, "rounds": 5, "epochs": 2, "seconds": 0.3,
    }  # fmt: skip


def run_part(part, setting):
    """Run a part; returns how many of its pieces failed."""
    report = Report(setting.results, part)
    module, function = PARTS[part]
    with report.attempt(part):
        getattr(importlib.import_module(module), function)(setting, report)
    return report.failures


def outcome(part, setting):
    """Run a part in a process of its own; returns how it went, as a word or a traceback."""
    if setting.left() <= 0:
        return LEFT_OUT
    print(f"\n== {part}", flush=True)
    begun = time.perf_counter()
    worker = Worker(run_part, part, setting)
    try:
        failures = worker.result(max(0.1, setting.left()) + GRACE)
    except TimeoutError:
        return "cut off: the time was used up"
    except RuntimeError:
        return f"FAILED:\n{traceback.format_exc()}"
    seconds = time.perf_counter() - begun
    return f"FAILED ({failures}), {seconds:.0f} s" if failures else f"done, {seconds:.0f} s"


# Seconds that a part may take to notice that its time is over.
GRACE = 10


def summary(head, results, outcomes):
    """Write gpu.txt: how each part went, and what the parts wrote."""
    lines = [head, ""]
    lines += [f"{part}: {how}" for part, how in outcomes.items()]
    for part in outcomes:
        path = results / f"gpu_{part}.txt"
        if path.exists() and outcomes[part] != LEFT_OUT:
            lines += ["", f"== {part}", path.read_text(encoding="utf-8").rstrip()]
    text = "\n".join(lines) + "\n"
    (results / "gpu.txt").write_text(text, encoding="utf-8")


def end(number, _):
    """A signal ends the program in the usual way, so that no process of a part is left."""
    sys.exit(128 + number)


def options(cores):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--minutes", type=float, default=10, help="limit of all parts together")
    parser.add_argument("--small", action="store_true", help="tiny sizes; always without a GPU")
    parser.add_argument("--backbones", nargs="+", help="default: resnet18; GPU: resnet50 as well")
    parser.add_argument("--at-once", type=at_least_one, nargs="+", help="trainings on one card; default: 1 2 3")  # fmt: skip
    parser.add_argument("--threads", type=at_least_one, default=cores)
    parser.add_argument("--study", nargs="+", help="configuration files instead of the published study")  # fmt: skip
    parser.add_argument("--targets", nargs="+", default=[], help="of the workflow; default: all")
    parser.add_argument("--wheels", type=Path, help="fetch wheels into this folder, and end")
    parser.add_argument("--python", default="3.12", help="Python that the wheels are for")
    add_results_option(parser)
    return parser.parse_args()


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    args = options(cores)
    if args.wheels:
        from train_elsewhere import fetch_wheels

        for path in fetch_wheels(WHEELS, args.python, args.wheels):
            print(path)
        return
    if "fork" not in multiprocessing.get_all_start_methods():
        sys.exit("this program needs a system that can fork processes, such as Linux")
    until = time.monotonic() + 60 * args.minutes
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    device, name = Worker(card).result(120)
    if args.minutes > 0:
        import_once((device, name))
    small = args.small or device == "cpu"
    results = Path(args.results)
    results.mkdir(parents=True, exist_ok=True)
    outcomes = {}
    with tempfile.TemporaryDirectory() as working:
        setting = Setting(
            device=device,
            small=small,
            backbones=args.backbones or (["resnet18"] if small else ["resnet18", "resnet50"]),
            threads=args.threads,
            at_once=args.at_once or [1, 2, 3],
            study=args.study or ([str(TINY)] if small else []),
            targets=args.targets,
            results=results,
            working=Path(working),
            until=until,
            **sizes(small),
        )
        for backbone in setting.backbones if args.minutes > 0 else ():
            # Remembered; every part's trainer asks for it.
            footprint(backbone, setting.size)
        head = machine(setting, name)
        print(head)
        for part in args.parts:
            outcomes[part] = outcome(part, setting)
            print(f"{part}: {outcomes[part]}", flush=True)
            summary(head, results, outcomes)
    bad = [part for part, how in outcomes.items() if "FAILED" in how]
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
