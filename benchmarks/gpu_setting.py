"""What the parts of benchmarks/gpu.py share: sizes, time, reports, processes, drawn data, the study."""

import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
import types
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# A process that has asked CUDA for cards cannot be forked; one that has asked NVML can.
os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

import measuring
import torch
from measuring import PROJECT
from precision import birds

from dmlstudy.compute.devices import autocast, choose_device, has_native_bfloat16, prepare
from dmlstudy.data.pack import Pack
from dmlstudy.plan.recipe_factory import make_recipe

# The study that runs on a CPU, where every branch shall run and no time counts.
TINY = PROJECT / "tests" / "workflow" / "tiny.yaml"


@dataclasses.dataclass
class Setting:
    """Sizes of all parts, and until when they may run (`time.monotonic`).

    ``device``: its type; ``size``: pixels of a side; ``classes`` and ``images_per_class``: of the drawn
    data, training and test images together; ``seconds``: to measure each step of the estimate for;
    ``study``: configuration files, none for the published study; ``targets``: of the workflow, none for all.
    """

    device: str
    small: bool
    size: int
    batch: int
    simclr_batch: int
    backbones: list
    classes: int
    images_per_class: int
    drawn_size: int
    steps: int
    rounds: int
    epochs: int
    seconds: float
    threads: int
    at_once: list
    study: list
    targets: list
    results: Path
    working: Path
    until: float

    def left(self):
        """Seconds that are left."""
        return self.until - time.monotonic()

    def torch_device(self):
        """The device, prepared as a training prepares it. Only a process of its own may call this."""
        device = choose_device(self.device)
        prepare(device, self.threads)
        return device

    def precision(self, device):
        """What `precision: auto` means on a device."""
        return "bfloat16" if has_native_bfloat16(device) else "float32"

    def recipe(self, **changes):
        """The study's baseline at the sizes of this run; ``changes`` replace whole fields."""
        own = {
            "backbone": self.backbones[0],
            "image_size": self.size,
            "batch_size": self.batch,
            "device": self.device,
            "compute_threads": self.threads,
            "epochs": 1,
        }
        return make_recipe(**{**own, **changes})

    def data(self):
        """(dataset, training pack, test pack) of drawn birds, drawn by the first part that needs them."""
        folder = self.working / "birds"
        resizes = f"shorter{round(1.1 * self.size)}", f"shorter{self.size}"
        kept = self.working / "birds.pickle"
        if not kept.exists():
            begun = time.perf_counter()
            dataset = birds(
                folder, self.classes, self.images_per_class, 0, self.threads,
                image_size=self.drawn_size, resizes=resizes,
            )  # fmt: skip
            kept.write_bytes(pickle.dumps(dataset))
            print(f"drew birds in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        dataset = pickle.loads(kept.read_bytes())
        return dataset, *(Pack(folder / resize) for resize in resizes)


class Report:
    """Lines and rows of a part, in ``gpu_PART.txt`` and ``gpu_PART.csv`` as soon as they are known."""

    def __init__(self, folder, part):
        folder.mkdir(parents=True, exist_ok=True)
        self.text, self.table = (folder / f"gpu_{part}.{ending}" for ending in ("txt", "csv"))
        for path in (self.text, self.table):
            path.unlink(missing_ok=True)
        self.rows, self.failures = [], 0

    def say(self, text):
        """Print lines and write them to the text file."""
        print(text, flush=True)
        with open(self.text, "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def row(self, **values):
        """Add a row to the table and write it."""
        import pandas as pd

        self.rows.append(values)
        pd.DataFrame(self.rows).to_csv(self.table, index=False)

    def failed(self, what):
        """Report the exception that is being handled. The part goes on, and counts as failed."""
        self.failures += 1
        self.say(f"FAILED: {what}\n{traceback.format_exc()}")

    @contextlib.contextmanager
    def attempt(self, what):
        """Context whose exceptions are reported: the others go on."""
        try:
            yield
        except Exception:
            self.failed(what)


# The process that the innermost worker runs in belongs to the group of the outermost one.
_inside = False


def _serve(pipe, work, arguments):
    global _inside
    if not _inside:
        # A group of its own, so that `Worker.end` also ends what it has started.
        os.setpgid(0, 0)
    _inside = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        pipe.send((True, work(*arguments)))
    except Exception:
        pipe.send((False, traceback.format_exc()))
        sys.exit(1)


class Worker:
    """A function in a forked process, which has the imports of this one and a GPU context of its own.

    A process that has used a GPU cannot be forked, so this process never does.
    """

    def __init__(self, work, *arguments):
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        sys.stdout.flush()
        self.process = context.Process(target=_serve, args=(other, work, arguments))
        self.process.start()
        if not _inside:
            with contextlib.suppress(OSError):
                os.setpgid(self.process.pid, self.process.pid)
        other.close()

    def result(self, seconds=None):
        """What the function returned. TimeoutError after ``seconds``; RuntimeError if it failed."""
        try:
            if not self.pipe.poll(seconds):
                raise TimeoutError(f"not finished after {seconds:.0f} s")
            done, value = self.pipe.recv()
        except EOFError:
            self.process.join()
            code = self.process.exitcode
            raise RuntimeError(f"the process ended with {code} and without a result") from None
        finally:
            self.end()
        if not done:
            raise RuntimeError(value)
        return value

    def end(self):
        """End the process, and whatever it has started, unless they have ended."""
        self.process.join(0.5)
        if _inside:
            self.process.kill()
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.join()


def synchronise(device):
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(work, device):
    """Seconds that ``work`` takes until the device has done it."""
    synchronise(device)
    begun = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - begun


def peak_bandwidth(device, megabytes, repetitions=10):
    """Bytes per second, read and written, of a copy from the device's memory to itself; the best of several."""
    source = torch.ones(megabytes * 2**18, device=device)
    target = torch.empty_like(source)
    times = [seconds_of(lambda: target.copy_(source), device) for _ in range(repetitions + 1)]
    return 2 * source.nbytes / min(times[1:])


def estimate_program():
    """The module estimate.py, whose code measures and multiplies.

    On a machine without Snakemake a stand-in merges the configuration, the only thing that it imports
    Snakemake for.
    """
    try:
        import snakemake.utils  # noqa: F401
    except ImportError:
        utils = types.ModuleType("snakemake.utils")
        utils.update_config = merge
        sys.modules["snakemake"] = types.ModuleType("snakemake")
        sys.modules["snakemake.utils"] = utils
    import estimate

    return estimate


def merge(values, changes):
    """Put a nested dictionary into another one, as Snakemake merges configuration files."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            merge(values[key], value)
        else:
            values[key] = value


def has_snakemake():
    """Whether Snakemake itself is installed, not its stand-in."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        version("snakemake")
    except PackageNotFoundError:
        return False
    return True


def in_precision(function, device, precision):
    """``function`` of images that runs in a precision, as embedding does."""

    def run(images):
        with autocast(device, precision):
            return function(images)

    return run


def machine(setting, card):
    """The line that describes hardware and versions, and whether the figures mean anything."""
    packages = ["torch", "torchvision"]
    line = measuring.machine(*packages, gpu=card)
    if setting.device == "cpu":
        line = f"on a CPU: shows only that the program works\n{line}"
    return line
