"""Captions: that of tables and pages in a Snakemake report, and what part of the data a photograph is in."""

import csv
from pathlib import Path

# What a page says of a photograph, by its part in split.csv.
PARTS = {
    "train": "training image",
    "test": "test image",
    "validation": "validation image, not used",
    "dropped": "dropped as a copy, not used",
}


def caption(path, protocol, sizes):
    """Protocol, number of queries and size of the gallery, in two sentences.

    ``path``: experiments.csv of a finished comparison. If it does not exist yet, the caption is
    empty. ``protocol``: the ``protocol`` of the configuration; ``sizes``: sides in pixels of the images
    of all experiments.
    """
    if not Path(path).exists():
        return ""
    with open(path, encoding="utf-8", newline="") as stream:
        first = next(csv.DictReader(stream))
    seeds = ", ".join(str(seed) for seed in protocol["seeds"])
    sides = " or ".join(str(side) for side in sorted(set(sizes)))
    return (
        f"precision@1 of n = {first['queries']} test images ({first['data']}), each answered by its "
        f"nearest neighbour in a gallery of {first['gallery']} training images of all "
        f"{first['classes']} classes; limited models were not trained on {first['unseen_classes']} of them. "
        f"{protocol['epochs']} epochs unless an experiment says otherwise, batch "
        f"{protocol['batch_size']}, {sides} pixels, test share "
        f"{protocol['test_share']:g}, weights after the last epoch, seed(s) {seeds}; intervals are 95 %."
    )
