"""Training a run: the model of one experiment, class set and seed."""

import gc
import logging
import math
import resource
import sys
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch._dynamo.exc import TorchDynamoException

from dmlstudy.compute.batches import ImageBatches, epoch_batches
from dmlstudy.compute.cuda_graphs import GraphedModel
from dmlstudy.compute.devices import (
    autocast,
    choose_device,
    derived_seed,
    fits,
    generator,
    keep_freed_memory,
    prepare,
    report_emulation,
    send,
)
from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone, load_backbone_weights
from dmlstudy.compute.memory import activation_megabytes, graph_bytes, working_bytes
from dmlstudy.compute.prefetch import made_ahead
from dmlstudy.compute.small_maps import trim_to
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.metrics import precision_at_1
from dmlstudy.evaluate.search import nearest_neighbours

# Up to so many MB of activations a process may take twice its memory to train faster, and stays below 4 GB.
SMALL = 1600


def build_piece(kind, recipe, *arguments):
    """Build what a recipe's part ``{"kind": name, …}`` names, the rest being its parameters."""
    parameters = {key: value for key, value in recipe.items() if key != "kind"}
    return registry.load(kind, recipe["kind"])(*arguments, **parameters)


def build_model(recipe, num_classes, seed, weights=None):
    """Model and loss of a recipe, initialised from ``seed`` and, if given, a file of backbone weights.

    Returns (EmbeddingModel, loss module), on the CPU.
    """
    torch.manual_seed(derived_seed(seed, "initialisation"))
    backbone, features = build_backbone(recipe["backbone"])
    if weights:
        load_backbone_weights(backbone, weights)
    trim_to(backbone, recipe["image_size"])
    head = build_piece("head", recipe["head"], features)
    model = EmbeddingModel(backbone, head, recipe["frozen_batchnorm"])
    with torch.no_grad():
        embedding_dim = head.eval()(torch.zeros(1, features)).shape[1]
    loss = build_piece("loss", recipe["loss"], num_classes, embedding_dim)
    return model.train(), loss


def build_optimizer(recipe, model, loss):
    """Optimizer over the model's weights and the loss's (proxies, class weights), and its schedule.

    The loss's weights train at ``loss_lr``, or at the optimizer's ``lr`` where that is null.
    """
    groups = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    own = [p for p in loss.parameters() if p.requires_grad]
    if own:
        group = {"params": own}
        if recipe["loss_lr"] is not None:
            group["lr"] = recipe["loss_lr"]
        groups.append(group)
    optimizer = build_piece("optimizer", recipe["optimizer"], groups)
    schedule = build_piece("schedule", recipe["schedule"], optimizer, recipe["epochs"])
    return optimizer, schedule


def train_epoch(model, loss, optimizer, batches, device, precision):
    """One pass over ``batches`` of (images, labels); returns the mean loss over batches.

    The model runs in the precision asked for; embeddings and losses are float32. Nothing of ours
    waits for the device before the end of the epoch.
    """
    model.train()
    total = torch.zeros((), device=device)
    count = 0
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            embeddings = model(images)
        value = loss(embeddings.float(), labels)
        value.backward()
        optimizer.step()
        total += value.detach()
        count += 1
    return float(total) / max(1, count)


class Diverged(StudyError):
    """A training whose loss or weights are no longer finite."""


def check_finite(value, epoch):
    if not math.isfinite(value):
        raise Diverged(
            f"the loss became {value} in epoch {epoch}; a lower optimizer.lr (or loss_lr) may help"
        )


def _cannot_compile(error):
    # Which backend, and what it says; then follows what is meant for developers.
    reason = " ".join(str(error).strip().splitlines()[:2])
    return StudyError(
        f"protocol.compile: torch.compile failed ({reason}); a compiler (C++ on a CPU, Triton on a "
        "GPU) may be missing. false trains without it"
    )


def peak_memory_mb(device):
    """Peak memory of this job in MB: (host, device or None); of a device, what torch took for itself."""
    # Linux counts in kB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if device.type != "cuda":
        return host, None
    return host, torch.cuda.max_memory_reserved(device) / 2**20


@dataclass
class TrainedRun:
    """What a training leaves: weights, curve, embeddings, cost."""

    model: torch.nn.Module
    loss: torch.nn.Module
    curve: list
    embeddings: dict
    cost: dict


def training_batches(augment, rows, labels, recipe, seed, epoch, device):
    """The (images, labels) batches of one epoch, drawn from ``seed`` and ``epoch`` alone.

    ``rows`` and ``labels``: int64 arrays (n,) of pack rows and labels. An augmentation that gives
    several views of each image gives all first views, then all second ones, with labels to match.
    """
    draws = generator(seed, "augmentation", epoch)
    order = epoch_batches(
        labels,
        recipe["batch_size"],
        derived_seed(seed, "order", epoch),
        samples_per_class=recipe["samples_per_class"],
    )
    rows, labels = torch.as_tensor(rows), torch.as_tensor(labels)
    for chosen in order:
        images = augment(rows[chosen], draws)
        views = len(images) // len(chosen)
        yield images, send(labels[chosen].repeat(views), device)


class Fitting:
    """Model, loss and optimizer of a recipe, trained epoch by epoch on some images of a pack.

    Used for runs and for initializers alike. ``num_classes``: how many labels there are.
    """

    def __init__(self, spec, pack, rows, labels, num_classes, weights=None):
        self.begun = time.perf_counter()
        self.spec, self.seed, self.device = spec, spec["seed"], choose_device(spec["device"])
        prepare(self.device, spec["compute_threads"])
        report_emulation(self.device, spec["precision"])
        if self.device.type == "cpu" and activation_megabytes(spec) <= SMALL:
            keep_freed_memory()
        self.rows, self.labels = rows, labels
        model, loss = build_model(spec, num_classes, self.seed, weights)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.loss = loss.to(self.device)
        # Embedding goes without, so that nothing is compiled for it.
        self.trained_model = torch.compile(self.model) if spec.get("compile") else self.model
        self.epoch = 0
        self.curve = []
        self.seconds = 0.0
        self.peaks = []
        if spec["epochs"]:
            if self.device.type == "cuda":
                # Graphs of a fitting that nobody has any more: their parts point at one another.
                gc.collect()
            self.images = self.images_of(pack)
            self.augment = build_piece("augmentation", spec["augmentation"], self.images)
            self.optimizer, self.schedule = build_optimizer(spec, self.model, self.loss)
            if self.device.type == "cuda" and spec.get("cuda_graphs", True):
                if fits(graph_bytes(spec), self.device, working_bytes(spec)):
                    self.trained_model = self.graphed(self.trained_model)
                else:
                    logging.info(
                        "CUDA graphs need more memory than this GPU has left: without them"
                    )

    def images_of(self, pack):
        """`ImageBatches` of a pack, which leave a GPU the memory that training needs."""
        reserve = working_bytes(self.spec)
        return ImageBatches(pack, self.spec["image_size"], self.device, reserve)

    def batches(self, epoch):
        """`training_batches` of this fitting."""
        return training_batches(
            self.augment, self.rows, self.labels, self.spec, self.seed, epoch, self.device
        )

    def graphed(self, model):
        """``model`` with CUDA graphs for whole batches; the rest of an epoch is too seldom to pay."""
        sample, _ = next(self.batches(1))
        try:
            return GraphedModel(model, sample, self.spec["precision"])
        except TorchDynamoException as error:
            raise _cannot_compile(error) from error
        except RuntimeError as error:
            raise StudyError(
                f"protocol.cuda_graphs: the model cannot be captured ({error}); false trains without"
            ) from error

    def train_epoch(self):
        """Train one more epoch; returns its row of the curve. StudyError if the loss is not finite."""
        begun = time.perf_counter()
        self.epoch += 1
        # Dropout draws from torch's own generator.
        torch.manual_seed(derived_seed(self.seed, "epoch", self.epoch))
        batches = self.batches(self.epoch)
        if self.images.cut_on_host:
            batches = made_ahead(batches, self.device)
        try:
            value = train_epoch(
                self.trained_model,
                self.loss,
                self.optimizer,
                batches,
                self.device,
                self.spec["precision"],
            )
        except TorchDynamoException as error:
            raise _cannot_compile(error) from error
        check_finite(value, self.epoch)
        # The epoch's last step may have gone astray after its loss was taken. A sum is finite only if all
        # it adds up is, and costs a fifteenth of looking at each value.
        sums = torch.stack([parameter.detach().sum() for parameter in self.model.parameters()])
        if not torch.isfinite(sums).all():
            check_finite(math.inf, self.epoch)
        self.schedule.step()
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        self.curve.append({"epoch": self.epoch, "train_loss": value, "seconds": seconds})
        return self.curve[-1]

    def store(self, saved, **more):
        """Let ``saved`` (a `resume.SavedState` or None) keep the state, and ``more``, where it is time to."""
        if saved is not None and (
            self.epoch % saved.every == 0 or self.epoch == self.spec["epochs"]
        ):
            saved.save({"fitting": self.state_dict(), **more})

    def state_dict(self):
        """All that the epochs to come depend on, and what the past ones left: tensors and plain values."""
        on_gpu = self.device.type == "cuda"
        return {
            "epoch": self.epoch,
            "curve": self.curve,
            "seconds": self.seconds,
            "total_seconds": time.perf_counter() - self.begun,
            "peaks": [*self.peaks, peak_memory_mb(self.device)],
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if on_gpu else None,
        }

    def load_state_dict(self, state):
        """Go on from a `state_dict` of a fitting with the same recipe and images."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["generator"])
        if self.device.type == "cuda" and state["cuda_generator"] is not None:
            torch.cuda.set_rng_state(state["cuda_generator"], self.device)
        self.epoch, self.curve = state["epoch"], list(state["curve"])
        self.seconds, self.peaks = state["seconds"], list(state["peaks"])
        self.begun -= state["total_seconds"]

    def cost(self, **more):
        """What the training took in all its attempts, for the table of costs."""
        peaks = [*self.peaks, peak_memory_mb(self.device)]
        on_device = [peak for _, peak in peaks if peak is not None]
        count = len(self.rows) * self.epoch
        return {
            "train_seconds": self.seconds,
            "images_per_second": count / self.seconds if self.seconds else None,
            "total_seconds": time.perf_counter() - self.begun,
            "peak_host_memory_mb": max(host for host, _ in peaks),
            "peak_device_memory_mb": max(on_device, default=None),
            "device": torch.cuda.get_device_name(self.device)
            if self.device.type == "cuda"
            else "cpu",
            "torch": torch.__version__,
            **more,
        }


def begin(saved, *arguments):
    """A `Fitting` of these arguments, and what was stored with it (a dictionary, empty at first).

    It goes on from ``saved`` (a `resume.SavedState` or None), where that holds something it can use.
    """
    fitting = Fitting(*arguments)
    if saved is None or saved.content is None:
        return fitting, {}
    # The weights that it holds are not needed a second time.
    stored, saved.content = saved.content, None
    try:
        fitting.load_state_dict(stored.pop("fitting"))
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        saved.discard(f"does not fit ({error})")
    else:
        logging.info("going on after epoch %d", fitting.epoch)
        return fitting, stored
    # What it holds of a GPU is given back first.
    del fitting
    return Fitting(*arguments), {}


def train_run(spec, dataset, train_pack, test_pack, weights=None, on_epoch=None, saved=None):
    """Train one run and embed gallery and queries with its last weights.

    ``spec``: the recipe with ``seed``, ``image_size``, ``eval_every``, ``precision``,
    ``compute_threads``, ``device`` and, if need be, ``compile`` or ``cuda_graphs``. ``dataset``: a `Dataset`; only
    training images of seen classes reach the weights. ``weights``: file of backbone weights or None
    (``scratch``).
    ``on_epoch(row, images_per_second)`` is called with each row of the curve. ``saved``: a
    `resume.SavedState` to go on from and to keep up to date, or None. A recipe of 0 epochs
    gives the untrained features and a curve of one row, epoch 0.
    """
    rows = dataset.images("train", seen_only=True)
    fitting, stored = begin(
        saved, spec, train_pack, rows, dataset.labels[rows], dataset.num_seen, weights
    )
    model, loss = fitting.model, fitting.loss
    test_images = fitting.images_of(test_pack)
    gallery, queries = dataset.images("train"), dataset.images("test")
    seen_gallery, seen_queries = rows, dataset.images("test", seen_only=True)

    def known_accuracy(gallery_embeddings, query_embeddings):
        """Micro precision@1 of queries and gallery of the classes that the model is trained on."""
        nearest = nearest_neighbours(
            normalised(query_embeddings),
            normalised(gallery_embeddings),
            ids=seen_gallery,
            threads=spec["compute_threads"],
            on_gpu=fitting.device.type == "cuda",
        )[1][:, 0]
        classes = dataset.class_ids
        return precision_at_1(classes[seen_gallery[nearest]] == classes[seen_queries])

    def embeddings_of(image_ids):
        return embed(model, test_images, image_ids, spec["precision"])

    curve, eval_seconds = fitting.curve, stored.get("evaluation_seconds", 0.0)
    while fitting.epoch < spec["epochs"]:
        row = fitting.train_epoch()
        row["test_accuracy"] = None
        last = fitting.epoch == spec["epochs"]
        if not last and fitting.epoch % spec["eval_every"] == 0:
            begun = time.perf_counter()
            row["test_accuracy"] = known_accuracy(
                embeddings_of(seen_gallery), embeddings_of(seen_queries)
            )
            eval_seconds += time.perf_counter() - begun
        fitting.store(saved, evaluation_seconds=eval_seconds)
        if on_epoch and not last:
            on_epoch(row, len(rows) / row["seconds"])

    # The last weights embed everything once; the curve's last point is a part of that.
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
        on_epoch(curve[-1], len(rows) / max(curve[-1]["seconds"], 1e-9))
    embeddings = {
        "gallery_embeddings": normalised(gallery_embeddings),
        "gallery_image_ids": gallery,
        "query_embeddings": normalised(query_embeddings),
        "query_image_ids": queries,
    }
    if hasattr(loss, "logits") and spec["epochs"]:
        with torch.inference_mode():
            predicted = loss.logits(query_embeddings).argmax(dim=1).cpu().numpy()
        # From labels back to class ids: the seen classes in order.
        embeddings["query_softmax_class_ids"] = np.flatnonzero(dataset.seen)[predicted]
    cost = fitting.cost(evaluation_seconds=eval_seconds)
    return TrainedRun(model, loss, curve, embeddings, cost)
