"""Accuracy and cost of the random projection by its width, and the time of all ways of answering; no torch.

    .venv/bin/python benchmarks/answers.py [--experiment results/experiments/NAME] [--widths 1000 2000 5000]

Without an experiment, random embeddings of CUB's size around a centre per class: their accuracy says
nothing, their times do. With a folder of a finished experiment, its stored embeddings. The limited model's way
is fitted on seen classes, unseen classes are added, and all queries are answered. Times are CPU seconds of
one thread, for the fit and to add one class. Then, for each way: the fit, the fit with the enrolment curve, a class of
50 photographs, and the fit as an index does it, with what was chosen and kept before.
"""

import argparse
import copy
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
# Photographs of a class that is added.
CLASS = 50


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
    """CPU seconds of a way: fit, enrolment curve, a class of `CLASS` photographs; fit as an index does it."""
    own = seen[run.gallery_classes]
    unseen = np.flatnonzero(~own)
    planned = enrolment.plan(run.gallery_classes, unseen, SIZES, DRAWS, SEED)
    wall, begun = time.perf_counter(), time.process_time()
    way = run.fitted(piece, np.flatnonzero(own), np.flatnonzero(seen))
    way.scores(run.queries[:1])
    fitted = time.process_time() - begun
    prepared = way.prepare(run.queries)
    for _, draws in planned:
        for rows in draws:
            run.added(way, rows).answers(prepared)
    whole = time.process_time() - begun
    wall = time.perf_counter() - wall
    rows = unseen[:CLASS]
    begun = time.process_time()
    added = copy.copy(way).add(run.gallery[rows], np.full(len(rows), len(seen)))
    added.scores(run.queries[:1])
    of_class = time.process_time() - begun
    kept = way.keep()
    begun = time.process_time()
    again = copy.copy(way)
    again.fit(way.features, way.class_ids, base=way.base, chosen=way.chosen, kept=kept)
    again.scores(run.queries[:1])
    return {
        "way": piece["kind"],
        "cpu_seconds_to_fit": fitted,
        "cpu_seconds_with_enrolment_curve": whole,
        "wall_seconds_with_enrolment_curve": wall,
        "photographs_of_a_class": len(rows),
        "cpu_seconds_to_add_the_class": of_class,
        "cpu_seconds_to_fit_in_an_index": time.process_time() - begun,
        "megabytes_kept_in_an_index": sum(one.nbytes for one in kept.values()) / 2**20,
    }


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
        if run.weights is None:
            # No weights were learnt. For times, any will do.
            run.weights = {int(one): run.gallery[one] for one in np.flatnonzero(seen)}
        pieces = complete_answers([{"kind": kind} for kind in ANSWERS], ())
        ways = [of_way(run, seen, piece) for piece in pieces]
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
    for way in ways:
        lines.append(
            f"{way['way']}: fit {way['cpu_seconds_to_fit']:.1f} s, with its enrolment curve "
            f"{way['cpu_seconds_with_enrolment_curve']:.1f} s, a class of {way['photographs_of_a_class']} "
            f"{way['cpu_seconds_to_add_the_class']:.3f} s; in an index: fit "
            f"{way['cpu_seconds_to_fit_in_an_index']:.2f} s, {way['megabytes_kept_in_an_index']:.0f} MB kept"
        )
    cpu, wall = (
        sum(way[f"{clock}_seconds_with_enrolment_curve"] for way in ways)
        for clock in ("cpu", "wall")
    )
    lines.append(f"all with their enrolment curves: {cpu:.1f} s of CPU, {wall:.1f} s")
    rows += ways
    write_results(args.results, "answers", "\n".join(lines), rows)


if __name__ == "__main__":
    main()
