"""Does the threshold of "unknown" keep its rate on classes that nobody trained on, over several draws?

    .venv/bin/python benchmarks/rejection_rate.py --run results/experiments/NAME/seed42/limited_classes \\
        --data results/data/cub200_2011

A limited model saw neither the gallery images nor the queries of its unseen classes. Each draw deals these out
anew: four fifths of each class into the gallery, and half of the classes to choose the threshold on. The other
half judges it by the images that are not in the gallery. An untrained model (--untrained) saw no image at all:
each draw chooses on all classes but as many random ones as are unseen, which judge. A difference below 2 points
is what the project promises; a single draw may be further off. Beside it stands the threshold that is chosen on
all gallery images.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import add_results_option, machine, write_results

from dmlstudy.data.dataset import Dataset
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.evaluate.thresholds import HELD_OUT, OWN, reached_by, similarities_to_others

GALLERY_SHARE = 0.8


def nearest(images, gallery):
    """Similarity of each image to its nearest gallery image."""
    return nearest_neighbours(images, gallery)[0][:, 0]


def deal(classes, rng):
    """Boolean mask: four fifths of the images of each class, drawn at random."""
    chosen = np.zeros(len(classes), dtype=bool)
    for name in np.unique(classes):
        rows = rng.permutation(np.flatnonzero(classes == name))
        chosen[rows[: max(1, round(GALLERY_SHARE * len(rows)))]] = True
    return chosen


def draw(stored, class_ids, judging, pool, shares, rng):
    """{(way, share): accepted share of the judging classes' queries} of one draw.

    ``judging``: class ids; ``pool``: boolean mask over classes whose images the model was not fitted to.
    """
    images = np.concatenate([stored["gallery_embeddings"], stored["query_embeddings"]])
    ids = np.concatenate([stored["gallery_image_ids"], stored["query_image_ids"]])
    classes = class_ids[ids]
    in_gallery = np.arange(len(ids)) < len(stored["gallery_image_ids"])
    dealt = np.flatnonzero(pool[classes])
    in_gallery[dealt] = deal(classes[dealt], rng)
    similarities = similarities_to_others(images[in_gallery])
    gallery_classes = classes[in_gallery]
    queries = ~in_gallery & np.isin(classes, judging)
    judged = nearest(images[queries], images[in_gallery])
    choosing = pool[gallery_classes] & ~np.isin(gallery_classes, judging)
    return {
        (way, share): float(np.mean(judged >= reached_by(similarities[rows], share)))
        for way, rows in ((HELD_OUT, choosing), (OWN, np.ones_like(choosing)))
        for share in shares
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, type=Path, help="folder of a limited run")
    parser.add_argument("--data", required=True, type=Path, help="folder of its data set")
    parser.add_argument("--untrained", action="store_true")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.9, 0.95])
    add_results_option(parser)
    args = parser.parse_args()
    class_set = args.data / "class_sets" / f"{args.run.name}.csv"
    dataset = Dataset.read(args.data / "manifest.csv", args.data / "split.csv", class_set)
    stored = read_embeddings(args.run / "embeddings.npz")
    unseen = np.flatnonzero(~dataset.seen)
    rows = []
    for number in range(args.draws):
        rng = np.random.default_rng(number)
        if args.untrained:
            pool = np.ones_like(dataset.seen)
            judging = rng.permutation(len(dataset.seen))[: len(unseen)]
        else:
            pool = ~dataset.seen
            judging = rng.permutation(unseen)[len(unseen) // 2 :]
        found = draw(stored, dataset.class_ids, judging, pool, args.shares, rng)
        rows += [
            {"draw": number, "way": way, "wanted": share, "accepted": accepted}
            for (way, share), accepted in found.items()
        ]
    table = pd.DataFrame(rows)
    summary = table.groupby(["way", "wanted"])["accepted"].agg(["mean", "std", "min", "max"])
    text = f"{args.run}, {args.draws} draws, shares of queries accepted\n{summary.round(3)}"
    write_results(args.results, "rejection_rate", f"{machine()}\n{text}", rows)


if __name__ == "__main__":
    main()
