"""Time of the evaluation, compared with the notebooks, on random embeddings; no training, no torch.

    .venv/bin/python benchmarks/evaluation.py [--repetitions 5] [--large]

At CUB's size: precision@1, classification report and per-class table, as in the notebooks (a loop over
single queries and a metric call per class) and as in this project, alternating; medians. Then the time
of all metrics of a run. With --large also 100,000 gallery images and 20,000 queries, in a separate
process to measure its peak memory.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import faiss
import numpy as np
from measuring import add_results_option, machine, write_results
from sklearn.metrics import accuracy_score
from sklearn.metrics import classification_report as sklearn_report

from dmlstudy.core.files import write_json
from dmlstudy.data.dataset import Dataset, make_class_set, write_csv
from dmlstudy.evaluate.evaluation import (
    class_metrics,
    classification_report,
    evaluate_experiment,
)
from dmlstudy.evaluate.retrieval import answer_queries

EVERYTHING = {
    "recall_at": [1, 2, 4, 8],
    "votes": [1, 5, 10, 20],
    "enrolment_images": [1, 2, 5, 10, 20],
    "enrolment_draws": 10,
    "bootstrap_draws": 10_000,
    "bootstrap_seed": 42,
}


def draw(classes, gallery, queries, dim=128, seed=0):
    """Embeddings around a centre per class: (embeddings, class of each image)."""
    rng = np.random.default_rng(seed)
    class_ids = np.concatenate([np.arange(gallery) % classes, np.arange(queries) % classes])
    vectors = rng.standard_normal((classes, dim), dtype=np.float32)[class_ids]
    vectors += 1.8 * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return {
        "gallery_embeddings": vectors[:gallery],
        "gallery_image_ids": np.arange(gallery),
        "query_embeddings": vectors[gallery:],
        "query_image_ids": np.arange(gallery, gallery + queries),
    }, class_ids


def notebook_way(embeddings, class_ids, names):
    """A search per query, then a metric call per class and scikit-learn's report."""
    index = faiss.IndexFlatIP(embeddings["gallery_embeddings"].shape[1])
    index.add(embeddings["gallery_embeddings"])
    truth, found = [], []
    for image, query in zip(
        embeddings["query_image_ids"], embeddings["query_embeddings"], strict=True
    ):
        _, nearest = index.search(query[None], 1)
        truth.append(class_ids[image])
        found.append(class_ids[embeddings["gallery_image_ids"][nearest[0, 0]]])
    truth, found = np.array(truth), np.array(found)
    table = [
        (name, accuracy_score(truth[truth == label], found[truth == label]))
        for label, name in enumerate(names)
    ]
    report = sklearn_report(truth, found, target_names=names, output_dict=True, zero_division=0)
    return accuracy_score(truth, found), table, report


def our_way(embeddings, class_ids, names, threads):
    queries = answer_queries(embeddings, class_ids, with_r_precision=False, threads=threads)
    gallery = class_ids[embeddings["gallery_image_ids"]]
    table = class_metrics(queries, gallery, names)
    return queries["correct"].mean(), table, classification_report(queries, names)


def whole(embeddings, class_ids, classes, unseen, threads):
    """Every table of one experiment with one limited model; seconds."""
    import pandas as pd

    count = len(class_ids)
    manifest = pd.DataFrame({"image_id": range(count), "class_id": class_ids, "path": "", "class_name": [f"c{c}" for c in class_ids]})  # fmt: skip
    gallery = len(embeddings["gallery_image_ids"])
    split = pd.DataFrame({"image_id": range(count), "part": np.repeat(["train", "test"], [gallery, count - gallery])})  # fmt: skip
    sets = [
        Dataset(manifest, split, make_class_set(classes, name, unseen=left_out))
        for name, left_out in (("all_classes", 0), ("limited_classes", unseen))
    ]
    with tempfile.TemporaryDirectory() as folder:

        def write(name, value):
            (write_json if name.endswith(".json") else write_csv)(Path(folder, name), value)

        begun = time.perf_counter()
        evaluate_experiment(
            sets,
            [42],
            lambda seed, name: (embeddings, float("nan")),
            write,
            threads=threads,
            **EVERYTHING,
        )
        return time.perf_counter() - begun


def peak_gb():
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    add_results_option(parser)
    parser.add_argument("--only-large", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_large:
        embeddings, class_ids = draw(1000, 100_000, 20_000)
        seconds = whole(embeddings, class_ids, 1000, 100, args.threads)
        print(f"100,000 × 20,000 × 128, 1,000 classes, every figure of two models: "
              f"{seconds:.0f} s, peak {peak_gb():.2f} GB")  # fmt: skip
        return
    embeddings, class_ids = draw(200, 9430, 2358)
    names = [f"class {index}" for index in range(200)]
    faiss.omp_set_num_threads(args.threads)
    arms = {"notebook": [], "ours": []}
    for repetition in range(args.repetitions + 1):
        begun = time.perf_counter()
        theirs = notebook_way(embeddings, class_ids, names)
        middle = time.perf_counter()
        ours = our_way(embeddings, class_ids, names, args.threads)
        end = time.perf_counter()
        assert abs(theirs[0] - ours[0]) < 1e-12
        assert np.allclose([share for _, share in theirs[1]], ours[1]["precision_at_1"])
        if repetition:
            arms["notebook"].append(middle - begun)
            arms["ours"].append(end - middle)
    medians = {name: statistics.median(seconds) for name, seconds in arms.items()}
    ratios = [a / b for a, b in zip(arms["notebook"], arms["ours"], strict=True)]
    seconds = statistics.median(
        whole(embeddings, class_ids, 200, 20, args.threads) for _ in range(min(3, args.repetitions))
    )
    text = (
        f"{machine('numpy', faiss=faiss.__version__)}, {args.threads} threads\n\n"
        f"9,430 × 2,358 × 128, precision@1, report and per-class table: notebook's way "
        f"{1000 * medians['notebook']:.0f} ms, ours {1000 * medians['ours']:.0f} ms, "
        f"{statistics.median(ratios):.1f} × ({min(ratios):.1f} to {max(ratios):.1f})\n"
        f"every figure of an experiment (both models, intervals included): {seconds:.1f} s"
    )
    rows = [{"arm": name, "seconds": value} for name, value in medians.items()]
    rows.append({"arm": "every figure of an experiment", "seconds": seconds})
    write_results(args.results, "evaluation", text, rows)
    if args.large:
        subprocess.run([sys.executable, __file__, "--only-large", "--threads", str(args.threads)], check=True)  # fmt: skip


if __name__ == "__main__":
    main()
