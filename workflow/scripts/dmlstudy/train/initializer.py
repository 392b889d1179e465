"""Trains an initializer: the weights of a backbone that runs start from."""

import numpy as np

from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.evaluate.metrics import precision_at_1
from dmlstudy.evaluate.search import nearest_neighbours, nearest_other
from dmlstudy.train.trainer import begin


def leave_one_out_precision_at_1(embeddings, labels, threads, *, on_gpu=False):
    """Micro precision@1 of images (n, dim), each in a gallery of all the others."""
    found = nearest_neighbours(embeddings, embeddings, 2, threads=threads, on_gpu=on_gpu)
    _, nearest = nearest_other(*found, np.arange(len(embeddings)))
    return precision_at_1(labels[nearest] == labels)


def pretrain(recipe, dataset, train_pack, test_pack, weights=None, on_epoch=None, saved=None):
    """Train a recipe on the training images of the seen classes, and nothing else.

    Arguments as for `run.train_run`. Returns (backbone, curve, check, cost). ``check`` holds the quality
    of the pooled features before and after: leave-one-out precision@1 of the training images of the seen
    classes. No test image is used.
    """
    rows = dataset.images("train", seen_only=True)
    labels = dataset.labels[rows]
    trainer, stored = begin(saved, recipe, train_pack, rows, labels, dataset.num_seen, weights)
    images = trainer.images_of(test_pack)
    backbone = trainer.model.backbone

    def check():
        features = normalised(embed(backbone, images, rows, recipe.precision))
        return leave_one_out_precision_at_1(
            features, labels, recipe.compute_threads, on_gpu=trainer.device.type == "cuda"
        )

    before = stored["before"] if stored else check()
    while trainer.epoch < recipe.epochs:
        row = trainer.train_epoch()
        trainer.store(saved, before=before)
        if on_epoch:
            on_epoch(row, len(rows) / row["seconds"])
    trainer.finish()
    after = check()
    result = {
        "images": len(rows),
        "classes": dataset.num_seen,
        "leave_one_out_precision_at_1_before": before,
        "leave_one_out_precision_at_1_after": after,
    }
    return backbone, trainer.curve, result, trainer.cost()
