"""Training a run: the model of one experiment, class set and seed."""

import time
from dataclasses import dataclass

import numpy as np
import torch

from dmlstudy.compute.embedding import normalised
from dmlstudy.evaluate.metrics import precision_at_1
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.train.trainer import Trainer, begin


def class_weight_arrays(loss, class_ids, gallery_embeddings, query_embeddings):
    """The vectors that a loss learnt for its classes, and what its scores take besides: {name: array}.

    ``classifier_class_ids`` (classes,); ``classifier_weights`` (classes, dim); of a classifier also
    ``classifier_bias`` (classes,) or, if weights and embeddings have length 1, ``classifier_scale`` ();
    ``gallery_norms``, ``query_norms``: lengths of the embeddings before they were normalised. float32.
    """
    arrays = {"classifier_class_ids": class_ids}
    for name, value in loss.class_weights().items():
        arrays[f"classifier_{name}"] = torch.as_tensor(value).detach().float().cpu().numpy()
    for role, values in (("gallery", gallery_embeddings), ("query", query_embeddings)):
        arrays[f"{role}_norms"] = values.norm(dim=1).cpu().numpy()
    return arrays


@dataclass
class TrainedRun:
    """Results of a training: weights, curve, embeddings, cost."""

    model: torch.nn.Module
    loss: torch.nn.Module
    curve: list
    embeddings: dict
    cost: dict


def train_run(
    recipe,
    dataset,
    train_pack,
    test_pack,
    weights=None,
    on_epoch=None,
    saved=None,
    *,
    kind=Trainer,
):
    """Train one run and embed gallery and queries with its last weights.

    ``recipe``: a `Recipe`. ``dataset``: a `Dataset`; only training images of seen classes reach the
    weights. ``weights``: file of backbone weights, or None for random ones. ``on_epoch(row,
    images_per_second)`` is called with each row of the curve; the rate is None if nothing was trained.
    ``saved``: a `resume.SavedState` to continue from and to keep up to date, or None. A recipe of 0 epochs gives the untrained features
    and a curve of one row, epoch 0. ``kind``: class of the trainer; a `HeadTrainer` takes stored
    features in place of both packs.
    """
    rows = dataset.images("train", seen_only=True)
    trainer, stored = begin(
        saved, recipe, train_pack, rows, dataset.labels[rows], dataset.num_seen, weights, kind=kind
    )
    model, loss = trainer.model, trainer.loss
    embeddings_of = trainer.embedder(test_pack)
    gallery, queries = dataset.images("train"), dataset.images("test")
    seen_gallery, seen_queries = rows, dataset.images("test", seen_only=True)

    def known_accuracy(gallery_embeddings, query_embeddings):
        """Micro precision@1 of queries and gallery of the classes that the model is trained on."""
        nearest = nearest_neighbours(
            normalised(query_embeddings),
            normalised(gallery_embeddings),
            ids=seen_gallery,
            threads=recipe.compute_threads,
            on_gpu=trainer.device.type == "cuda",
        )[1][:, 0]
        classes = dataset.class_ids
        return precision_at_1(classes[seen_gallery[nearest]] == classes[seen_queries])

    curve, eval_seconds = trainer.curve, stored.get("evaluation_seconds", 0.0)
    # Without a head that trains, on stored features, embeddings never change.
    changes = any(True for _ in trainer.changing.parameters())
    while trainer.epoch < recipe.epochs:
        row = trainer.train_epoch()
        row["test_accuracy"] = None
        last = trainer.epoch == recipe.epochs
        if not last and trainer.epoch % recipe.eval_every == 0:
            begun = time.perf_counter()
            earlier = {point["test_accuracy"] for point in curve[:-1]} - {None}
            if changes or not earlier:
                row["test_accuracy"] = known_accuracy(
                    embeddings_of(seen_gallery), embeddings_of(seen_queries)
                )
            else:
                row["test_accuracy"] = earlier.pop()
            eval_seconds += time.perf_counter() - begun
        trainer.store(saved, evaluation_seconds=eval_seconds)
        if on_epoch and not last:
            on_epoch(row, len(rows) / row["seconds"])

    trainer.finish()
    # The last weights embed everything once; the last point of the curve comes from these embeddings.
    begun = time.perf_counter()
    gallery_embeddings, query_embeddings = embeddings_of(gallery), embeddings_of(queries)
    if not curve:
        curve.append({"epoch": 0, "train_loss": None, "seconds": 0.0})
    curve[-1]["test_accuracy"] = known_accuracy(
        gallery_embeddings[np.isin(gallery, seen_gallery)],
        query_embeddings[np.isin(queries, seen_queries)],
    )
    eval_seconds += time.perf_counter() - begun
    if on_epoch:
        # A row without training has no rate.
        seconds = curve[-1]["seconds"]
        on_epoch(curve[-1], len(rows) / seconds if seconds else None)
    embeddings = {
        "gallery_embeddings": normalised(gallery_embeddings),
        "gallery_image_ids": gallery,
        "query_embeddings": normalised(query_embeddings),
        "query_image_ids": queries,
    }
    # From labels back to class ids: the seen classes in order.
    class_ids = np.flatnonzero(dataset.seen)
    if hasattr(loss, "logits") and recipe.epochs:
        with torch.inference_mode():
            predicted = loss.logits(query_embeddings).argmax(dim=1).cpu().numpy()
        embeddings["query_softmax_class_ids"] = class_ids[predicted]
    if hasattr(loss, "class_weights") and recipe.epochs:
        embeddings |= class_weight_arrays(loss, class_ids, gallery_embeddings, query_embeddings)
    cost = trainer.cost(evaluation_seconds=eval_seconds)
    return TrainedRun(model, loss, curve, embeddings, cost)
