"""Peak memory of the rules' programs, beside what the rules request.

    .venv/bin/python benchmarks/memory_requests.py trainings        (small recipes, a minute each)
    .venv/bin/python benchmarks/memory_requests.py tables           (56,590 images of 11,318 classes)
    .venv/bin/python benchmarks/memory_requests.py tables --images 2000 --classes 50 --dim 512
    .venv/bin/python benchmarks/memory_requests.py data             (the same numbers; JPEGs of 300 x 224)

Trainings run train.py on a pack of noise. Tables, maps and pages are made from random embeddings by the
rules' own programs, one at a time. `data` lists, checks, splits and packs a folder of images, and draws
heat maps of an untrained ResNet18 at 32 pixels; of its helper processes the largest one counts. Peaks are
those of the operating system (ru_maxrss) and count mapped files. Ends with exit code 1 if a peak is higher than its request.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd
from drawn_study import DrawnStudy
from measuring import PROJECT, add_results_option, machine, write_results
from PIL import Image

from dmlstudy.data.dataset import make_class_set, make_split, write_csv
from dmlstudy.plan import memory_requests as requests
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.recipe_factory import make_recipe

MB = 2**20
# (backbone, image size, batch size, changes of the baseline's recipe).
TRAININGS = [
    ("resnet18", 32, 8, {}),
    ("resnet18", 64, 64, {}),
    ("resnet18", 112, 64, {"augmentation": {"kind": "simclr"}, "loss": {"kind": "simclr"},
                           "head": {"kind": "simclr_projection"}}),
    ("resnet18", 224, 32, {}),
    ("resnet50", 32, 32, {}),
    ("resnet50", 112, 64, {}),
    ("resnet50", 224, 16, {"optimizer": {"kind": "adam"}}),
]  # fmt: skip


# A process inherits the peak of the one that starts it, so a small one starts the program.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""


def peak_of(program, *arguments):
    """Peak memory of a program in MB, without its helper processes; exits if it fails."""
    with tempfile.NamedTemporaryFile("r") as answer:
        command = [sys.executable, PROJECT / "workflow/scripts" / program, *arguments]
        command = [sys.executable, "-S", "-c", LAUNCHER, answer.name, *command]
        begun = time.perf_counter()
        if subprocess.run([str(word) for word in command]).returncode:
            sys.exit(f"{program} failed")
        peak = float(answer.read())
    # Kilobytes, but bytes on macOS.
    peak /= MB if sys.platform == "darwin" else 1024
    print(f"{program}: {peak:.0f} MB, {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    return peak


def noise_pack(folder, images, shorter):
    """A pack of equal images of CUB's usual proportions."""
    shape = (shorter, shorter * 4 // 3)
    size = 3 * shape[0] * shape[1]
    folder.mkdir(parents=True)
    block = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with open(folder / "pixels.bin", "wb") as stream:
        for _ in range(images):
            stream.write(block)
    np.savez(
        folder / "index.npz",
        offsets=np.arange(images, dtype=np.int64) * size,
        heights=np.full(images, shape[0]),
        widths=np.full(images, shape[1]),
    )
    return images * size


def training(folder, backbone, size, batch, changes, *, images=None, classes=4):
    """(request, peak) in MB of train.py: an epoch of two steps on a CPU."""
    recipe = make_recipe(
        backbone=backbone, image_size=size, batch_size=batch, epochs=1, compute_threads=1,
        precision="float32", device="cpu", **changes,
    )  # fmt: skip
    images = images or max(4 * classes, 3 * batch)
    ids = np.sort(np.arange(images) % classes)
    manifest = pd.DataFrame(
        {
            "image_id": range(images), "path": [f"{index}.jpg" for index in range(images)],
            "class_id": ids, "class_name": [f"class {one}" for one in ids],
            "width": 400, "height": 300, "sha256": "",
        }
    )  # fmt: skip
    folder = Path(folder)
    write_csv(folder / "manifest.csv", manifest)
    split = make_split(manifest, method="stratified", test_share=0.25, seed=0)
    write_csv(folder / "split.csv", split)
    write_csv(folder / "set.csv", make_class_set(classes, "all_classes", unseen=0))
    packs = sum(
        noise_pack(folder / f"pack_shorter{side}", images, side)
        for side in (round(1.1 * size), size)
    )
    peak = peak_of(
        "train.py", "--recipe", recipe.as_json(), "--name", "measured",
        "--manifest", folder / "manifest.csv", "--split", folder / "split.csv",
        "--class-set", folder / "set.csv", "--train-pack", folder / f"pack_shorter{round(1.1 * size)}",
        "--test-pack", folder / f"pack_shorter{size}", "--out", folder / "run", "--code", "none",
    )  # fmt: skip
    facts = Describer()([backbone], size)[backbone]
    data = requests.Data(images, classes)
    return requests.training(recipe, facts, data, packs / MB, on_gpu=False), peak


class Measured(DrawnStudy):
    """A drawn study whose programs are measured: ``peaks`` {program: MB}."""

    def __init__(self, *arguments, **options):
        self.peaks = {}
        super().__init__(*arguments, **options)

    def run(self, program, *arguments):
        self.peaks[program] = peak_of(program, *arguments)


def tables(folder, images, classes, dim, *, experiments=2, bootstrap_draws=1000):
    """{program: (request, peak)} in MB of everything that is made from embeddings and tables."""
    names = [f"class {number:05}" for number in range(classes)]
    rows = {f"experiment_{number}": 0.5 + 0.05 * number for number in range(experiments)}
    study = Measured(folder, names, images, max(1, classes // 10), rows, dim=dim)
    study.thumbnails()
    study.map("experiment_0")
    study.evaluate(bootstrap_draws=bootstrap_draws)
    study.check_health(bootstrap_draws=bootstrap_draws)
    study.score_rejection(bootstrap_draws=bootstrap_draws)
    study.answer(bootstrap_draws=bootstrap_draws)
    study.compare(bootstrap_draws=bootstrap_draws)
    study.report("experiment_0")
    study.index()
    data = requests.Data(images, classes)
    models = {"models": 2, "dim": dim}
    asked = {
        "make_thumbnails.py": requests.thumbnails(data, 40),
        "map_embeddings.py": requests.mapping(data, dim),
        "evaluate.py": requests.evaluation(data, **models),
        "score_rejection.py": requests.rejection(data, dim),
        "answer.py": requests.answering(data, dim, 0),
        "check_health.py": requests.comparison(data, experiments=2, models=2),
        "compare.py": requests.comparison(data, experiments=experiments, models=2),
        "report.py": requests.report(data, models=2),
        "compare_page.py": requests.index_page(data, experiments),
    }
    return {name: (asked[name], peak) for name, peak in study.peaks.items() if name in asked}


def write_images(folder, images, classes):
    """A folder per class of small JPEGs, no two of them equal."""
    from drawn_study import draw_photographs

    contents = []
    for pixels in draw_photographs(60):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG")
        contents.append(stream.getvalue())
    for number in range(images):
        path = folder / f"class {number % classes:05}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Decoders do not read what stands behind an image.
        path.write_bytes(contents[number % 60] + str(number).encode())


def data_programs(folder, images, classes, *, threads=2):
    """{program: (request, peak)} in MB of everything that reads images, and of heat maps."""
    source, size = folder / "images", 32
    write_images(source, images, classes)
    manifest, split, pack = (
        folder / "manifest.csv",
        folder / "split.csv",
        folder / f"pack_shorter{size}",
    )
    sets = {name: folder / f"{name}.csv" for name in ("all_classes", "limited_classes")}
    unseen = max(1, classes // 10)
    listed = ("--images", source, "--format", "folders", "--threads", threads)
    runs = {
        "list_images.py": (*listed, "--out", manifest),
        "find_problems.py": (
            *listed, "--resize", pack.name.removeprefix("pack_"), "--unseen", unseen,
            "--out-problems", folder / "problems.csv", "--out-classes", folder / "classes.csv",
            "--out-copies", folder / "copies.csv",
        ),
        "split.py": (
            "--manifest", manifest, "--test-share", 0.2, "--seed", 42,
            "--out", split, "--out-duplicates", folder / "duplicates.csv",
        ),
        "pack.py": (
            "--images", source, "--manifest", manifest, "--resize", f"shorter{size}",
            "--threads", threads, "--out", pack,
        ),
    }  # fmt: skip
    peaks = {program: peak_of(program, *arguments) for program, arguments in runs.items()}
    recipe = make_recipe(
        backbone="resnet18", image_size=size, batch_size=64, epochs=0, compute_threads=1,
        precision="float32", device="cpu",
    )  # fmt: skip
    experiment, tables = folder / "experiment", ("--manifest", manifest, "--split", split)
    models = experiment / "seed42"
    for name, path in sets.items():
        peaks["choose_classes.py"] = peak_of(
            "choose_classes.py", *tables, "--class-set", name,
            "--unseen", 0 if name == "all_classes" else unseen, "--out", path,
        )  # fmt: skip
        peaks["train.py"] = peak_of(
            "train.py", "--recipe", recipe.as_json(), "--name", "measured", "--code", "none",
            *tables, "--class-set", path, "--train-pack", pack, "--test-pack", pack,
            "--out", models / name,
        )  # fmt: skip
    peak_of(
        "evaluate.py", "--experiment", experiment, "--seeds", 42, "--data", "measured", *tables,
        "--class-sets", *sets.values(), "--bootstrap-draws", 100, "--enrolment-draws", 1,
    )  # fmt: skip
    peaks["explain.py"] = peak_of(
        "explain.py", "--runs", models, *tables, "--class-sets", *sets.values(),
        "--test-pack", pack, "--out", folder / "heatmaps",
    )  # fmt: skip
    facts = Describer()(["resnet18"], size)["resnet18"]
    data = requests.Data(images, classes, 0.3 * 0.224)
    packed = (pack / "pixels.bin").stat().st_size / MB
    reading = (data, threads, 100_000_000)
    asked = {
        "list_images.py": requests.listing(*reading),
        "find_problems.py": requests.listing(*reading),
        "split.py": requests.tables(data),
        "choose_classes.py": requests.tables(data),
        "pack.py": requests.packing(*reading),
        "train.py": requests.training(recipe, facts, data, packed, on_gpu=False),
        "explain.py": requests.explanation(
            facts, data, size, requests.width(recipe, facts), len(sets), 2 * 24 + 200, packed
        ),
    }
    return {name: (asked[name], peak) for name, peak in peaks.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("trainings", "tables", "data"))
    parser.add_argument("--images", type=int, default=56_590)
    parser.add_argument("--classes", type=int, default=11_318)
    parser.add_argument("--dim", type=int, default=128, help="dimensions of the embeddings")
    parser.add_argument("--experiments", type=int, default=2)
    parser.add_argument("--bootstrap-draws", type=int, default=1000)
    parser.add_argument("--folder", help="where to write the inputs")
    add_results_option(parser)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=args.folder) as working:
        if args.what == "trainings":
            for number, (backbone, size, batch, changes) in enumerate(TRAININGS):
                found = training(Path(working) / str(number), backbone, size, batch, changes)
                kind = changes.get("loss", {}).get("kind", "epshn")
                rows.append((f"{backbone}, {size} pixels, batches of {batch}, {kind}", *found))
        else:
            folder = Path(working) / "study"
            if args.what == "data":
                found = data_programs(folder, args.images, args.classes)
            else:
                found = tables(
                    folder, args.images, args.classes, args.dim,
                    experiments=args.experiments, bootstrap_draws=args.bootstrap_draws,
                )  # fmt: skip
            rows = [(program, *both) for program, both in found.items()]
    lines = [machine("torch"), "", f"{'':48}{'request':>9}{'peak':>9}  MB"]
    lines += [f"{name:48}{asked:9.0f}{peak:9.0f}" for name, asked, peak in rows]
    table = [dict(zip(("what", "request_mb", "peak_mb"), row, strict=True)) for row in rows]
    write_results(args.results, f"memory_requests_{args.what}", "\n".join(lines), table)
    sys.exit(any(peak > asked for _, asked, peak in rows))


if __name__ == "__main__":
    main()
