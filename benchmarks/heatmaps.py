"""Time of the heat maps of an experiment: 24 queries to show, 200 to evaluate, at 224 pixels.

    .venv/bin/python benchmarks/heatmaps.py [--backbones resnet18 resnet50] [--threads 2]

Images are noise in as many classes as CUB-200-2011 has, and weights are random; the time does not depend
on them. Maps are made for both models of an experiment, and for a network with random weights and its own
proxies. Every answer is wrong, so that each query has two maps per model. Decoding is not measured.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

SIZE, CLASSES, EACH, TEST = 224, 200, 12, 2


def study():
    """(manifest, dataset of all classes, of the limited set, pack) of noise."""
    from types import SimpleNamespace

    import numpy as np
    import pandas as pd

    from dmlstudy.data.dataset import Dataset, make_class_set

    count = CLASSES * EACH
    ids = np.arange(count)
    manifest = pd.DataFrame({"image_id": ids, "class_id": ids // EACH, "width": 250, "height": 224})
    manifest["class_name"] = [f"class {index}" for index in manifest["class_id"]]
    manifest["box_x"], manifest["box_y"] = 60, 50
    manifest["box_width"], manifest["box_height"] = 120, 130
    part = np.where(ids % EACH < TEST, "test", "train")
    split = pd.DataFrame({"image_id": ids, "part": part})
    rng = np.random.default_rng(0)
    bytes_each = 224 * 250 * 3
    pack = SimpleNamespace(
        pixels=rng.integers(0, 256, count * bytes_each, dtype=np.uint8),
        offsets=ids * bytes_each,
        heights=np.full(count, 224),
        widths=np.full(count, 250),
    )
    sets = [
        Dataset(manifest, split, make_class_set(CLASSES, name, unseen=unseen))
        for name, unseen in (("all_classes", 0), ("limited_classes", 20))
    ]
    return manifest, sets, pack


def measure(backbone, threads):
    """Seconds for one experiment."""
    import numpy as np
    import pandas as pd

    from dmlstudy.explain.explanation import Run, explain
    from dmlstudy.plan.recipe_factory import make_recipe
    from dmlstudy.train.building import build_model

    manifest, sets, pack = study()
    recipe = make_recipe(backbone=backbone, image_size=SIZE, compute_threads=threads)
    rng = np.random.default_rng(1)
    runs = []
    for dataset in sets:
        gallery, queries = dataset.images("train"), dataset.images("test")
        vectors = rng.standard_normal((len(gallery), 128)).astype(np.float32)
        embeddings = {"gallery_embeddings": vectors, "gallery_image_ids": gallery}
        classes = dataset.class_ids[queries]
        answers = pd.DataFrame({"image_id": queries, "class_id": classes, "correct": 0})
        answers["nearest_class_id"] = (classes + 1) % CLASSES
        model, _ = build_model(recipe, 2, 42)
        runs.append(Run(dataset.class_set, model.eval(), recipe, embeddings, answers, dataset))
    begun, busy = time.perf_counter(), time.process_time()
    table, _, layer, localisation = explain(
        runs,
        sets[0],
        manifest,
        pack,
        "shorter224",
        queries=24,
        evaluated=200,
        seed=42,
        draws=10_000,
    )
    seconds, busy = time.perf_counter() - begun, time.process_time() - busy
    print(
        f"{backbone}: {seconds:.0f} s ({busy:.0f} s of processor time), {len(table)} maps to show, "
        f"{int(localisation['queries'].max())} queries evaluated with 3 networks ({layer})",
        flush=True,
    )
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {args.threads} threads, {SIZE} pixels")
    slow = [name for name in args.backbones if measure(name, args.threads) > 300]
    if slow:
        sys.exit(f"over five minutes: {', '.join(slow)}")


if __name__ == "__main__":
    main()
