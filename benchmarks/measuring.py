"""Shared code of the benchmarks: drawn images, memory of a process, description of the machine, files."""

import argparse
import importlib.metadata
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PROJECT = Path(__file__).resolve().parents[1]
PROGRAMS = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(PROGRAMS))

from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_output

# Width and height of a drawn image: the usual size in CUB-200-2011.
SIZE = (500, 375)


def draw(rng):
    """An image with edges, gradients and grain: about 60 kB as JPEG, like the images of CUB."""
    width, height = SIZE
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = rng.integers(0, width), rng.integers(0, height)
        a, b = rng.integers(10, 120, 2)
        pen.ellipse((x - a, y - b, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    image = image.filter(ImageFilter.GaussianBlur(1))
    grain = rng.normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def make_images(folder, count, distinct, *, classes=1, turned_every=None):
    """Write ``count`` JPEGs to ``classes`` subfolders of ``folder``, in turn; returns their mean size in bytes.

    ``distinct`` of them are drawn, the others are copies. With ``turned_every``, every so many images
    one is rotated, with an EXIF orientation that undoes the rotation.
    """
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[274] = 6
    paths = [folder / f"class{index % classes:03}" / f"{index:05}.jpg" for index in range(count)]
    for path in paths[:classes]:
        path.parent.mkdir(parents=True)
    for index, path in enumerate(paths):
        if index < distinct:
            lies = turned_every and index % turned_every == 0
            draw(rng).save(path, quality=90, exif=turned if lies else Image.Exif())
        else:
            shutil.copyfile(paths[index % distinct], path)
    return statistics.mean(path.stat().st_size for path in paths)


def memory_of(pid):
    """(anonymous, resident) bytes of a process and its children; mapped files only count as resident."""
    anonymous = resident = 0
    for process in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        anonymous += int(fields.get("RssAnon", "0").split()[0]) * 1024
        resident += int(fields.get("VmRSS", "0").split()[0]) * 1024
    return anonymous, resident


def children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def run_watched(command):
    """Run a command. Returns (seconds, peak anonymous bytes, peak resident bytes); exits if it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)))
    peaks, over = [(0, 0)], threading.Event()

    def watch():
        while not over.wait(0.02):
            peaks.append(memory_of(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - begun
    over.set()
    watcher.join()
    if code:
        sys.exit(f"{' '.join(map(str, command))} ended with {code}")
    return seconds, *(max(values) for values in zip(*peaks, strict=True))


def cpu_seconds(pid):
    """CPU time in seconds of a process and its children so far; 0 without /proc."""
    ticks = 0
    for process in [pid, *children(pid)]:
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def serve(pipe, make_arms, arguments):
    """Send the names of the arms, then run each requested arm, until None arrives."""
    arms = make_arms(*arguments)
    pipe.send(list(arms))
    while (name := pipe.recv()) is not None:
        arms[name]()
        pipe.send(name)


class Side:
    """Arms that run in one separate process, with additional variables ``environment``."""

    def __init__(self, make_arms, arguments, **environment):
        os.environ.update(environment)
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, make_arms, arguments))
        self.process.start()
        for name in environment:
            del os.environ[name]
        other.close()
        self.names = self.pipe.recv()
        self.spent = {name: [] for name in self.names}

    def run(self, name):
        """Run one arm; its CPU time (with that of its workers) is added to ``spent``."""
        before = cpu_seconds(self.process.pid)
        self.pipe.send(name)
        self.pipe.recv()
        self.spent[name].append(cpu_seconds(self.process.pid) - before)

    def close(self):
        self.pipe.send(None)
        self.process.join()


def in_turn(arms, rounds):
    """Seconds of each arm ({name: function}) in each round; every other round in reverse order.

    Each arm runs twice, and only the second run counts, because the first one must refill caches and
    memory after another arm; this took up to 20 % of an epoch.
    """
    seconds = {name: [] for name in arms}
    for number in range(rounds):
        order = list(arms) if number % 2 == 0 else list(reversed(arms))
        for name in order:
            arms[name]()
            begun = time.perf_counter()
            arms[name]()
            seconds[name].append(time.perf_counter() - begun)
            print(
                f"round {number + 1} of {rounds}: {name}, {seconds[name][-1]:.2f} s",
                file=sys.stderr,
                flush=True,
            )
    return seconds


def ratio(seconds, slow, fast):
    """Median over rounds of the speed of ``fast`` relative to ``slow``."""
    return statistics.median(
        first / second for first, second in zip(seconds[slow], seconds[fast], strict=True)
    )


def loader_context(workers):
    """Multiprocessing context for the workers of a DataLoader: fork if available, as in a notebook.

    Arms run in spawned processes, whose workers would otherwise be spawned too, and import everything
    again.
    """
    return "fork" if workers and "fork" in multiprocessing.get_all_start_methods() else None


def processor():
    """Name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc").exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine(*packages, gpu=None, **versions):
    """One line with hardware, load, and the versions of Python, ``packages`` and ``versions``."""
    items = [f"{processor()}, {os.cpu_count()} cores"]
    if gpu:
        items.append(gpu)
    items.append(f"load {os.getloadavg()[0]:.1f}")
    items.append(f"Python {platform.python_version()}")
    items += [f"{name} {importlib.metadata.version(name)}" for name in packages]
    items += [f"{name} {version}" for name, version in versions.items()]
    return ", ".join(items)


def write_results(folder, name, text, rows=()):
    """Print ``text``; write it as ``name.txt`` and ``rows`` (dictionaries) as ``name.csv``."""
    import pandas as pd

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    print(text)
    (folder / f"{name}.txt").write_text(text + "\n", encoding="utf-8")
    if rows:
        pd.DataFrame(rows).to_csv(folder / f"{name}.csv", index=False)


def at_least_one(text):
    """A number of something on a command line: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return value


def results_folder(text):
    """A folder that results can be written to, checked before anything is measured."""
    try:
        check_output("--results", text, folder=True)
    except StudyError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("--results ")) from None
    return text


def add_results_option(parser):
    parser.add_argument(
        "--results",
        type=results_folder,
        default=PROJECT / "results" / "benchmarks",
        help="folder for the table and the text",
    )


def drawn_dataset(classes, images_per_class, image_size, seed, **drawn):
    """The `dataset` of a configuration whose birds are drawn; ``drawn``: further keys of `dataset.drawn`."""
    sizes = {"classes": classes, "images_per_class": images_per_class, "image_size": image_size}
    nothing = dict.fromkeys(("source", "md5", "bytes"))
    return {
        "name": "drawn_birds", "format": "cub", **nothing, "classes": classes,
        "drawn": {**sizes, "seed": seed, **drawn},
    }  # fmt: skip
