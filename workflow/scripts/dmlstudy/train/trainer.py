"""A recipe's model, trained epoch by epoch. Runs, initializers and candidates all use it."""

import gc
import logging
import math
import resource
import sys
import time

import torch

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
from dmlstudy.compute.embedding import embed
from dmlstudy.compute.memory import graph_bytes, takes_at_most, working_bytes
from dmlstudy.compute.prefetch import made_ahead
from dmlstudy.compute.trained_parts.low_rank import merge
from dmlstudy.core.files import StudyError
from dmlstudy.train.building import build_model, build_optimizer, build_piece

# Up to this many MB of activations, a process on a CPU keeps the memory that it frees: it trains
# faster, takes up to twice the memory, and stays below 4 GB.
SMALL = 1600


def train_epoch(model, loss, optimizer, batches, device, precision, clip=None):
    """One pass over ``batches`` of (images, labels); returns the mean loss over batches.

    ``clip``: largest norm of the gradient of all weights together, or None. The model runs in the given precision; embeddings and losses are float32. None of our code waits
    for the device before the end of the epoch.
    """
    model.train()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    total = torch.zeros((), device=device)
    count = 0
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            embeddings = model(images)
        value = loss(embeddings.float(), labels)
        value.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(trained, clip)
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


def peak_memory_mb(device):
    """Peak memory of this job in MB: (host, device or None). Of a device: what torch reserved there."""
    # Linux counts in kB, macOS in bytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if device.type != "cuda":
        return host, None
    return host, torch.cuda.max_memory_reserved(device) / 2**20


def training_batches(augment, rows, labels, recipe, seed, epoch, device):
    """The (images, labels) batches of one epoch. They depend on ``seed`` and ``epoch`` only.

    ``rows`` and ``labels``: int64 arrays (n,) of pack rows and labels. An augmentation with
    several views per image gives all first views, then all second views; labels match.
    """
    draws = generator(seed, "augmentation", epoch)
    order = epoch_batches(
        labels,
        recipe.batch_size,
        derived_seed(seed, "order", epoch),
        samples_per_class=recipe.samples_per_class,
    )
    rows, labels = torch.as_tensor(rows), torch.as_tensor(labels)
    for chosen in order:
        images = augment(rows[chosen], draws)
        views = len(images) // len(chosen)
        yield images, send(labels[chosen].repeat(views), device)


class Trainer:
    """Model, loss and optimizer of a recipe, trained epoch by epoch on some images of a pack.

    ``recipe``: a `Recipe`; ``rows``, ``labels``: int64 arrays (n,); ``num_classes``: number of labels.
    """

    def __init__(self, recipe, pack, rows, labels, num_classes, weights=None):
        self.begun = time.perf_counter()
        self.recipe, self.seed, self.device = recipe, recipe.seed, choose_device(recipe.device)
        prepare(self.device, recipe.compute_threads)
        report_emulation(self.device, recipe.precision)
        if self.device.type == "cpu" and takes_at_most(recipe, SMALL):
            keep_freed_memory()
        self.rows, self.labels = rows, labels
        model, loss = build_model(recipe, num_classes, self.seed, weights, self.device)
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.loss = loss.to(self.device)
        self.changing = self.part_that_changes(self.model)
        self.trained_model = self.changing
        self.epoch = 0
        self.curve = []
        self.seconds = 0.0
        self.peaks = []
        if recipe.epochs:
            self.prepare_training(pack)

    def part_that_changes(self, model):
        """The part of ``model`` whose weights train; it is stored in the state."""
        return model

    def prepare_training(self, pack):
        """Images, augmentation, optimizer and, on a GPU, CUDA graphs."""
        recipe = self.recipe
        if self.device.type == "cuda":
            # Frees the graphs of an earlier trainer: they form reference cycles.
            gc.collect()
        self.images = self.images_of(pack)
        self.augment = build_piece("augmentation", recipe.augmentation, self.images)
        self.optimizer, self.schedule = build_optimizer(recipe, self.changing, self.loss)
        if self.device.type == "cuda" and recipe.cuda_graphs:
            if fits(graph_bytes(recipe), self.device, working_bytes(recipe)):
                self.trained_model = self.graphed(self.trained_model)
            else:
                logging.info("not enough GPU memory is left for CUDA graphs; training without them")

    def embedder(self, pack):
        """Function image ids (n,) → embeddings (n, dim) of a test pack, as of `embedding.embed`."""
        images = self.images_of(pack)
        return lambda image_ids: embed(self.model, images, image_ids, self.recipe.precision)

    def images_of(self, pack):
        """`ImageBatches` of a pack. On a GPU they leave the memory that training needs."""
        reserve = working_bytes(self.recipe)
        size, wanted = self.recipe.image_size, self.model.preprocessing
        return ImageBatches(pack, size, self.device, reserve, mean=wanted.mean, std=wanted.std)

    def batches(self, epoch):
        """`training_batches` of this trainer."""
        return training_batches(
            self.augment, self.rows, self.labels, self.recipe, self.seed, epoch, self.device
        )

    def graphed(self, model):
        """``model`` with CUDA graphs for whole batches. Other batches are too rare to need one."""
        sample, _ = next(self.batches(1))
        try:
            return GraphedModel(model, sample, self.recipe.precision)
        except RuntimeError as error:
            raise StudyError(
                f"protocol.cuda_graphs: the model cannot be captured ({error}); set it to false to "
                "train without CUDA graphs"
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
        value = train_epoch(
            self.trained_model,
            self.loss,
            self.optimizer,
            batches,
            self.device,
            self.recipe.precision,
            self.recipe.clip_gradients,
        )
        check_finite(value, self.epoch)
        # The last step of an epoch can diverge after its loss was computed. A sum is finite only if all
        # its values are, and it costs a fifteenth of a check of each value.
        sums = [parameter.detach().sum() for parameter in self.changing.parameters()]
        if sums and not torch.isfinite(torch.stack(sums)).all():
            check_finite(math.inf, self.epoch)
        self.schedule.step()
        seconds = time.perf_counter() - begun
        self.seconds += seconds
        self.curve.append({"epoch": self.epoch, "train_loss": value, "seconds": seconds})
        return self.curve[-1]

    def finish(self):
        """Give the model the form in which it is stored: a plain backbone. It cannot train any more."""
        merge(self.model)

    def store(self, saved, **more):
        """Store the state, and ``more``, in ``saved`` (a `resume.SavedState` or None) if it is due."""
        if saved is not None and (
            self.epoch % saved.every == 0 or self.epoch == self.recipe.epochs
        ):
            saved.save({"trainer": self.state_dict(), **more})

    def state_dict(self):
        """Everything that later epochs and the outputs depend on: tensors and plain values."""
        on_gpu = self.device.type == "cuda"
        return {
            "epoch": self.epoch,
            "curve": self.curve,
            "seconds": self.seconds,
            "total_seconds": time.perf_counter() - self.begun,
            "peaks": [*self.peaks, peak_memory_mb(self.device)],
            "model": self.changing.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state(self.device) if on_gpu else None,
        }

    def load_state_dict(self, state):
        """Continue from a `state_dict` of a trainer with the same recipe and images."""
        self.changing.load_state_dict(state["model"])
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
        """Cost of the training over all its attempts, for the table of costs."""
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


def begin(saved, *arguments, kind=Trainer):
    """A trainer of these arguments, and what was stored with it (a dictionary, empty at first).

    ``kind``: its class. It continues from ``saved`` (a `resume.SavedState` or None) if that holds a usable state.
    """
    trainer = kind(*arguments)
    if saved is None or saved.content is None:
        return trainer, {}
    # Frees the weights that it holds: they are not needed a second time.
    stored, saved.content = saved.content, None
    try:
        trainer.load_state_dict(stored.pop("trainer"))
    except (torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        saved.discard(f"does not fit ({error})")
    else:
        logging.info("continuing after epoch %d", trainer.epoch)
        return trainer, stored
    # Frees its GPU memory before the next one takes some.
    del trainer
    return kind(*arguments), {}
