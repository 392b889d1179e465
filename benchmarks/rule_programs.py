"""The rules' programs on a drawn data set, one at a time, and what each of them cost.

Trainings are left out, except for those without epochs that heat maps and indexes need.
"""

import dataclasses
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from drawn_study import DrawnStudy, draw_photographs
from measuring import PROJECT
from PIL import Image

from dmlstudy.plan import memory_requests as requests
from dmlstudy.plan.recipe_factory import make_recipe

MB = 2**20
# Side of the packed images of the programs that read photographs.
SIDE = 32
# A process inherits the peak of the one that starts it, so a small one starts the program.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
open(sys.argv[1], "w").write(f"{used.ru_maxrss} {used.ru_utime + used.ru_stime}")
sys.exit(code)
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one call of a program cost. Of its helper processes, the largest one counts for the peak."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    written_mb: float = 0.0
    largest_file_mb: float = 0.0


def cost_of(program, *arguments):
    """`Cost` of a program of the rules, without what it wrote; exits if it fails."""
    command = [sys.executable, PROJECT / "workflow/scripts" / program, *arguments]
    return cost_of_command(program, command)


def cost_of_command(name, command):
    """`Cost` of any command, whose output is only shown if it fails; then exits."""
    with tempfile.NamedTemporaryFile("r") as answer:
        command = [sys.executable, "-S", "-c", LAUNCHER, answer.name, *command]
        begun = time.perf_counter()
        done = subprocess.run(
            [str(word) for word in command],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        seconds = time.perf_counter() - begun
        if done.returncode:
            sys.exit(f"{name} failed:\n{done.stdout}")
        peak, cpu = map(float, answer.read().split())
    # Kilobytes, but bytes on macOS.
    peak /= MB if sys.platform == "darwin" else 1024
    print(f"{name}: {peak:.0f} MB, {seconds:.0f} s, CPU {cpu:.1f} s", file=sys.stderr)
    return Cost(seconds, cpu, peak)


class Costs:
    """Runs programs that write below ``folder``: ``costs`` {program: [Cost of each call]}."""

    def __init__(self, folder):
        self.folder, self.costs = Path(folder), {}

    def run(self, program, *arguments):
        """Run a program of the rules and remember what it cost."""
        before = self._files()
        cost = cost_of(program, *arguments)
        changed = [
            size / MB
            for path, (when, size) in self._files().items()
            if before.get(path) != (when, size)
        ]
        written = {"written_mb": sum(changed), "largest_file_mb": max(changed, default=0.0)}
        cost = dataclasses.replace(cost, **written)
        self.costs.setdefault(program, []).append(cost)

    def peak(self, program):
        """The highest peak of a program's calls in MB."""
        return max(cost.peak_mb for cost in self.costs[program])

    def _files(self):
        """{path: (time, size)} of what programs write; the photographs are not looked at."""
        found = {}
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if name != "images"]
            for name in names:
                stat = os.stat(path := os.path.join(place, name))
                found[path] = (stat.st_mtime_ns, stat.st_size)
        return found


class MeasuredStudy(DrawnStudy):
    """A drawn study whose programs are measured: ``costs`` as those of `Costs`."""

    def __init__(self, folder, *arguments, **options):
        self._costs = Costs(folder)
        self.costs, self.peak, self.run = self._costs.costs, self._costs.peak, self._costs.run
        super().__init__(folder, *arguments, **options)


def run_table_programs(folder, images, classes, dim, *, experiments=2, **draws):
    """Run everything that is made from embeddings and tables; the `MeasuredStudy`.

    One experiment is evaluated. The comparison and the pages get copies of it, under other names.
    Suspected labels are left out if they request more memory than the machine has; a line says so.
    ``draws``: ``bootstrap_draws`` and ``enrolment_draws``, if they are not those of `DrawnStudy`.
    """
    names = [f"class {number:05}" for number in range(classes)]
    first, *others = (f"experiment_{number}" for number in range(experiments))
    study = MeasuredStudy(folder, names, images, max(1, classes // 10), {first: 0.5}, dim=dim)
    bootstrap = {key: value for key, value in draws.items() if key == "bootstrap_draws"}
    study.thumbnails()
    study.map(first)
    study.evaluate(**draws)
    study.check_health(**bootstrap)
    study.score_rejection(**bootstrap)
    study.answer(**draws)
    needed = requests.suspects(requests.Data(images, classes), dim) / 1024
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if needed < memory:
        study.suspect_labels(first)
    else:
        print(f"suspect_labels.py: left out, it requests {needed:.0f} GB", file=sys.stderr)
    study.copy(first, others)
    # The page of the first experiment has no baseline to compare it with.
    shown = [first, *others][-1]
    study.compare(**bootstrap)
    study.report(shown, **bootstrap)
    study.index(**bootstrap)
    return study


def write_images(folder, images, classes):
    """A folder per class of small JPEGs, no two of which look alike.

    Each is put together from horizontal strips of 60 photographs without encoding anything again:
    strips between restart markers can be decoded by themselves.
    """
    heads, strips, marks = [], [], []
    for pixels in draw_photographs(60):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", restart_marker_rows=1)
        data = stream.getvalue()
        # The data follows the header of the scan, which says its own length.
        scan = data.index(b"\xff\xda") + 2
        scan += int.from_bytes(data[scan : scan + 2], "big")
        pieces = re.split(rb"(\xff[\xd0-\xd7])", data[scan:].removesuffix(b"\xff\xd9"))
        heads.append(data[:scan])
        strips.append(pieces[::2])
        marks = [*pieces[1::2], b"\xff\xd9"]
    rng = np.random.default_rng(0)
    for number in range(images):
        chosen = rng.integers(0, len(strips), len(marks))
        path = folder / f"class {number % classes:05}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = zip(chosen, marks, strict=True)
        body = (strips[one][row] + mark for row, (one, mark) in enumerate(rows))
        path.write_bytes(heads[0] + b"".join(body))


def run_data_programs(folder, images, classes, *, threads=2):
    """Run everything that reads images, and heat maps and an index of an untrained ResNet18.

    Returns (`Costs`, recipe of the untrained model, pack's size in MB).
    """
    folder = Path(folder)
    source = folder / "images"
    write_images(source, images, classes)
    manifest, split = folder / "manifest.csv", folder / "split.csv"
    pack, copies = folder / f"pack_shorter{SIDE}", folder / "copies.csv"
    sets = {name: folder / f"{name}.csv" for name in ("all_classes", "limited_classes")}
    unseen = max(1, classes // 10)
    near = ("--near", 10)
    photographs = ("--images", source)
    listed = (*photographs, "--format", "folders", "--threads", threads)
    tables = ("--manifest", manifest, "--split", split)
    measured = Costs(folder)
    run = measured.run
    run("list_images.py", *listed, "--out", manifest)
    run(
        "find_problems.py", *listed, *near, "--resize", f"shorter{SIDE}", "--unseen", unseen,
        "--out-problems", folder / "problems.csv", "--out-classes", folder / "classes.csv",
        "--out-copies", copies,
    )  # fmt: skip
    run(
        "show_copies.py", *photographs, "--copies", copies, "--dataset", "drawn", *near,
        "--out", folder / "copies.html",
    )  # fmt: skip
    run(
        "find_copies.py", *photographs, "--manifest", manifest, *near, "--threads", threads,
        "--out", folder / "copies_of_split.csv",
    )  # fmt: skip
    run(
        "split_groups.py", *photographs, "--manifest", manifest, "--duplicates", "together",
        "--copies", folder / "copies_of_split.csv", "--out", split,
        "--out-duplicates", folder / "duplicates.csv", "--out-groups", folder / "groups.csv",
    )  # fmt: skip
    run(
        "split.py", "--manifest", manifest, "--test-share", 0.2, "--seed", 42,
        "--out", split, "--out-duplicates", folder / "duplicates.csv",
    )  # fmt: skip
    run(
        "pack.py", *photographs, "--manifest", manifest, "--resize", f"shorter{SIDE}",
        "--threads", threads, "--out", pack,
    )  # fmt: skip
    recipe = make_recipe(
        backbone="resnet18", image_size=SIDE, batch_size=64, epochs=0, compute_threads=1,
        precision="float32", device="cpu",
    )  # fmt: skip
    experiment = folder / "experiment"
    models = experiment / "seed42"
    for name, path in sets.items():
        run(
            "choose_classes.py", *tables, "--class-set", name,
            "--unseen", 0 if name == "all_classes" else unseen, "--out", path,
        )  # fmt: skip
    run(
        "hold_out.py", *tables, "--class-sets", *sets.values(), "--validation-share", 0.2,
        "--held-out-share", 0.2, "--seed", 42, "--out", folder / "selection.csv",
    )  # fmt: skip
    for name, path in sets.items():
        run(
            "train.py", "--recipe", recipe.as_json(), "--name", "measured", "--code", "none",
            *tables, "--class-set", path, "--train-pack", pack, "--test-pack", pack,
            "--out", models / name,
        )  # fmt: skip
    # Its costs are those of drawn embeddings: see run_table_programs.
    cost_of(
        "evaluate.py", "--experiment", experiment, "--seeds", 42, "--data", "measured", *tables,
        "--class-sets", *sets.values(), "--bootstrap-draws", 100, "--enrolment-draws", 1,
    )  # fmt: skip
    run(
        "explain.py", "--runs", models, *tables, "--class-sets", *sets.values(),
        "--test-pack", pack, "--out", folder / "heatmaps",
    )  # fmt: skip
    run(
        "index_gallery.py", *tables, "--embeddings", models / "all_classes" / "embeddings.npz",
        "--model", models / "all_classes" / "model.pt", "--class-set", sets["all_classes"],
        "--limited", models / "limited_classes" / "embeddings.npz",
        "--limited-sets", sets["limited_classes"], "--threads", threads, "--out", folder / "index",
    )  # fmt: skip
    return measured, recipe, (pack / "pixels.bin").stat().st_size / MB
