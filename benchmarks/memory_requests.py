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
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pandas as pd
from measuring import add_results_option, machine, write_results
from rule_programs import MB, SIDE, cost_of, run_data_programs, run_table_programs

from dmlstudy.data.dataset import make_class_set, make_split, write_csv
from dmlstudy.plan import memory_requests as requests
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.recipe_factory import make_recipe

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
    peak = cost_of(
        "train.py", "--recipe", recipe.as_json(), "--name", "measured",
        "--manifest", folder / "manifest.csv", "--split", folder / "split.csv",
        "--class-set", folder / "set.csv", "--train-pack", folder / f"pack_shorter{round(1.1 * size)}",
        "--test-pack", folder / f"pack_shorter{size}", "--out", folder / "run", "--code", "none",
    ).peak_mb  # fmt: skip
    facts = Describer()([backbone], size)[backbone]
    data = requests.Data(images, classes)
    return requests.training(recipe, facts, data, packs / MB, on_gpu=False), peak


def tables(folder, images, classes, dim, *, experiments=2, bootstrap_draws=1000):
    """{program: (request, peak)} in MB of everything that is made from embeddings and tables."""
    study = run_table_programs(
        folder, images, classes, dim, experiments=experiments, bootstrap_draws=bootstrap_draws
    )
    data = requests.Data(images, classes)
    models = {"models": 2, "dim": dim}
    asked = {
        "make_thumbnails.py": requests.thumbnails(data, requests.THUMBNAIL),
        "map_embeddings.py": requests.mapping(data, dim),
        "evaluate.py": requests.evaluation(data, **models),
        "suspect_labels.py": requests.suspects(data, dim),
        "score_rejection.py": requests.rejection(data, dim),
        "answer.py": requests.answering(data, dim, 0),
        "check_health.py": requests.comparison(data, experiments=2, models=2),
        "compare.py": requests.comparison(data, experiments=experiments, models=2),
        "report.py": requests.report(data, models=2),
        "compare_page.py": requests.index_page(data, experiments, models=2),
    }
    return {name: (request, study.peak(name)) for name, request in asked.items()}


def data_programs(folder, images, classes, *, threads=2):
    """{program: (request, peak)} in MB of everything that reads images, and of heat maps."""
    measured, recipe, packed = run_data_programs(folder, images, classes, threads=threads)
    facts = Describer()(["resnet18"], SIDE)["resnet18"]
    data = requests.Data(images, classes, 0.3 * 0.224)
    dim = requests.width(recipe, facts)
    reading = (data, threads, 100_000_000)
    asked = {
        "list_images.py": requests.listing(*reading),
        "find_problems.py": requests.listing(*reading),
        "show_copies.py": requests.listing(*reading),
        "find_copies.py": requests.listing(*reading),
        "split.py": requests.tables(data),
        "split_groups.py": requests.tables(data),
        "choose_classes.py": requests.tables(data),
        "hold_out.py": requests.tables(data),
        "pack.py": requests.packing(*reading),
        "train.py": requests.training(recipe, facts, data, packed, on_gpu=False),
        "explain.py": requests.explanation(facts, data, SIDE, dim, 2, 2 * 24 + 200, packed),
        "index_gallery.py": requests.gallery(data, dim, 0),
    }
    return {name: (request, measured.peak(name)) for name, request in asked.items()}


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
