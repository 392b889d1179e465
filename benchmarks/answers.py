"""Accuracy and cost of the random projection by its width, and the time of all ways of answering; no torch.

    .venv/bin/python benchmarks/answers.py [--experiment results/experiments/NAME] [--widths 1000 2000 5000]

Without an experiment, random embeddings of CUB's size around a centre per class: their accuracy says
nothing, their times do. With a folder of a finished experiment, its stored embeddings. The limited model's way
is fitted on seen classes, unseen classes are added, and all queries are answered. Times are CPU seconds of
one thread, for the fit and to add one class. Then the wall seconds of each way with its enrolment curve.
"""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import numpy as np
from measuring import add_results_option, at_least_one, machine, write_results

from dmlstudy.data.dataset import Dataset, make_class_set
from dmlstudy.evaluate import enrolment
from dmlstudy.evaluate.answer_tables import Run, one_thread
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.plan.evaluation_settings import ANSWERS
from dmlstudy.plan.recipes import complete_answers

WIDTHS = [500, 1000, 2000, 4000, 5000, 7000, 10_000]
SIZES, DRAWS, SEED = [1, 2, 5, 10, 20], 10, 42


def drawn(classes, gallery, queries, dim, seed=0):
    """Embeddings around a centre per class, as a `Run`."""
    rng = np.random.default_rng(seed)
    class_ids = np.concatenate([np.arange(gallery) % classes, np.arange(queries) % classes])
    vectors = rng.standard_normal((classes, dim), dtype=np.float32)[class_ids]
    vectors += 4 * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = {
        "gallery_embeddings": vectors[:gallery],
        "gallery_image_ids": np.arange(gallery),
        "query_embeddings": vectors[gallery:],
        "query_image_ids": np.arange(gallery, gallery + queries),
    }
    seen = make_class_set(classes, "limited", unseen=max(1, classes // 10))["seen"].to_numpy(bool)
    return Run(embeddings, class_ids), seen


def stored(folder):
    """The limited run of a finished experiment, as a `Run`, and which classes are seen."""
    data = sorted((folder.parents[1] / "data").glob("*/class_sets/limited_classes.csv"))[0].parents[
        1
    ]
    tables = (data / name for name in ("manifest.csv", "split.csv"))
    dataset = Dataset.read(*tables, data / "class_sets" / "limited_classes.csv")
    path = sorted(folder.glob("seed*/limited_classes/embeddings.npz"))[0]
    return Run(read_embeddings(path), dataset.class_ids), dataset.seen


def of_width(run, seen, width):
    """Accuracy and CPU seconds of the random projection of one width."""
    own, known = seen[run.gallery_classes], seen[run.query_classes]
    piece = {"kind": "random_projection_ridge", "width": width}
    base = np.flatnonzero(seen)
    begun = time.process_time()
    way = run.fitted(piece, np.flatnonzero(own), base)
    fitted = time.process_time() - begun
    rows = np.flatnonzero(run.gallery_classes == run.gallery_classes[~own].min())
    begun = time.process_time()
    run.added(way, rows).scores(run.queries[:1])
    added = time.process_time() - begun
    right = run.added(way, np.flatnonzero(~own)).answers(run.queries)[0] == run.query_classes
    return {
        "width": way.chosen["width"],
        "precision_at_1": right.mean(),
        "precision_at_1_unseen_classes": right[~known].mean(),
        "cpu_seconds_to_fit": fitted,
        "cpu_seconds_to_add_a_class": added,
        "megabytes_of_the_factor": 8 * way.chosen["width"] ** 2 / 2**20,
    }


def of_way(run, seen, piece):
    """Wall seconds of a way: fit, and all points of the enrolment curve."""
    own = seen[run.gallery_classes]
    planned = enrolment.plan(run.gallery_classes, np.flatnonzero(~own), SIZES, DRAWS, SEED)
    begun = time.perf_counter()
    way = run.fitted(piece, np.flatnonzero(own), np.flatnonzero(seen))
    prepared = way.prepare(run.queries)
    for _, draws in planned:
        for rows in draws:
            run.added(way, rows).answers(prepared)
    return time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", type=Path, help="folder of a finished experiment")
    parser.add_argument("--widths", type=at_least_one, nargs="+", default=WIDTHS)
    parser.add_argument("--images", type=at_least_one, nargs=2, default=[9430, 2358])
    parser.add_argument("--classes", type=at_least_one, default=200)
    parser.add_argument("--dimensions", type=at_least_one, default=2048)
    add_results_option(parser)
    args = parser.parse_args()
    if args.experiment:
        run, seen = stored(args.experiment)
    else:
        run, seen = drawn(args.classes, *args.images, args.dimensions)
    with one_thread():
        rows = [of_width(run, seen, width) for width in args.widths]
        # The classifier needs class weights, and costs what a class mean costs.
        kinds = [kind for kind in ANSWERS if kind != "imprinted_classifier"]
        pieces = complete_answers([{"kind": kind} for kind in kinds], ())
        times = {piece["kind"]: of_way(run, seen, piece) for piece in pieces}
    lines = [
        f"{machine('numpy', 'scipy')}, 1 thread",
        "",
        f"{len(run.gallery)} × {len(run.queries)} × {run.gallery.shape[1]}, "
        f"{args.experiment.name if args.experiment else 'random embeddings'}",
        "",
    ]
    for row in rows:
        lines.append(
            f"width {row['width']:6}: precision@1 {100 * row['precision_at_1']:.1f} %, unseen classes "
            f"{100 * row['precision_at_1_unseen_classes']:.1f} %, fit {row['cpu_seconds_to_fit']:.1f} s, "
            f"a class {row['cpu_seconds_to_add_a_class']:.2f} s, {row['megabytes_of_the_factor']:.0f} MB"
        )
    lines.append("")
    lines += [
        f"{kind} with its enrolment curve: {seconds:.1f} s" for kind, seconds in times.items()
    ]
    lines.append(f"all: {sum(times.values()):.1f} s")
    rows += [{"way": kind, "seconds": seconds} for kind, seconds in times.items()]
    write_results(args.results, "answers", "\n".join(lines), rows)


if __name__ == "__main__":
    main()
