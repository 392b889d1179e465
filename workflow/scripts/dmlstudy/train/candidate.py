"""Trains one candidate of a selection and scores it on images that it was not trained on."""

import numpy as np
import torch

from dmlstudy.compute.embedding import normalised
from dmlstudy.evaluate.held_out import HELD_OUT, TRAIN, VALIDATION
from dmlstudy.evaluate.metrics import harmonic_mean, precision_at_1
from dmlstudy.evaluate.search import nearest_neighbours, nearest_other
from dmlstudy.train.trainer import Diverged, Trainer, begin


def try_recipe(
    recipe, images, train_pack, test_pack, weights=None, on_epoch=None, saved=None, *, kind=Trainer
):
    """Train a candidate on the trained images of a selection and score it on the others.

    ``recipe``, packs, ``weights``, ``on_epoch``, ``saved`` and ``kind``: as for `run.train_run`. ``images``: the
    table of `held_out.hold_out`; no other image is read. Returns (scores, cost).

    The gallery holds trained and held-out images, as the study's gallery holds enrolled unseen classes.
    Scores are micro precision@1 of the validation images of trained classes, that of each image of a
    held-out class among all others, their harmonic mean, and, for a classifier, the softmax accuracy of
    the validation images (else None). All are None if the training diverged.
    """
    ids, classes = images["image_id"].to_numpy(), images["class_id"].to_numpy()
    part = {
        name: np.flatnonzero((images["part"] == name).to_numpy())
        for name in (TRAIN, VALIDATION, HELD_OUT)
    }
    known, labels = np.unique(classes[part[TRAIN]], return_inverse=True)
    gallery = np.sort(np.concatenate([part[TRAIN], part[HELD_OUT]]))
    queries = np.concatenate([part[VALIDATION], part[HELD_OUT]])
    trainer, _ = begin(
        saved, recipe, train_pack, ids[part[TRAIN]], labels, len(known), weights, kind=kind
    )
    embeddings_of = trainer.embedder(test_pack)

    def hits():
        """(which queries are answered correctly, softmax accuracy or None); None if it diverged."""
        try:
            while trainer.epoch < recipe.epochs:
                row = trainer.train_epoch()
                trainer.store(saved)
                if on_epoch:
                    on_epoch(row, len(part[TRAIN]) / row["seconds"])
        except Diverged:
            return None
        trainer.finish()
        of_queries = embeddings_of(ids[queries])
        embeddings = [normalised(values) for values in (of_queries, embeddings_of(ids[gallery]))]
        # Running statistics of BatchNorm can overflow where no weight and no loss does.
        if not all(np.isfinite(values).all() for values in embeddings):
            return None
        similarities, found = nearest_neighbours(
            *embeddings,
            2,
            ids=ids[gallery],
            threads=recipe.compute_threads,
            on_gpu=trainer.device.type == "cuda",
        )
        _, nearest = nearest_other(similarities, gallery[found], queries)
        softmax, validation = None, part[VALIDATION]
        if hasattr(trainer.loss, "logits"):
            with torch.inference_mode():
                logits = trainer.loss.logits(of_queries[: len(validation)])
            predicted = logits.argmax(dim=1).cpu().numpy()
            softmax = precision_at_1(known[predicted] == classes[validation])
        return classes[nearest] == classes[queries], softmax

    found = hits()
    scores = dict.fromkeys(
        (
            "precision_at_1_validation",
            "precision_at_1_held_out_classes",
            "harmonic_mean",
            "softmax_accuracy_validation",
        )
    )
    if found is not None:
        correct, softmax = found
        both = [
            precision_at_1(correct[: len(part[VALIDATION])]),
            precision_at_1(correct[len(part[VALIDATION]) :]),
        ]
        scores = dict(zip(scores, (*both, float(harmonic_mean(*both)), softmax), strict=True))
    scores |= {
        "diverged": found is None,
        "epochs": recipe.epochs,
        "seed": recipe.seed,
        "trained_classes": len(known),
        "held_out_classes": len(np.unique(classes[part[HELD_OUT]])),
        "validation_queries": len(part[VALIDATION]),
        "held_out_queries": len(part[HELD_OUT]),
        "gallery": len(gallery),
    }
    return scores, trainer.cost()
