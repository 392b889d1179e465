"""Trains a head and a loss on stored features: the backbone stays as it is."""

import time

import torch

from dmlstudy.compute.batches import epoch_batches
from dmlstudy.compute.devices import derived_seed, send
from dmlstudy.compute.features import head_embeddings
from dmlstudy.core.files import StudyError
from dmlstudy.train.building import build_optimizer
from dmlstudy.train.trainer import Trainer

# State is not stored more often than this. An epoch takes less time than a disk needs.
SECONDS_BETWEEN_STATES = 5


class HeadTrainer(Trainer):
    """A `Trainer` whose batches are rows of stored features. Only the head and the loss train.

    ``features``: `features.Features` of all images; ``rows``: image ids (n,). ``model`` is the whole
    model, backbone included. Weights, order of the images and dropout are drawn from the same seeds as in
    a `Trainer`. Raises StudyError for features of another width than the backbone's.
    """

    def __init__(self, recipe, features, rows, labels, num_classes, weights=None):
        super().__init__(recipe, features, rows, labels, num_classes, weights)
        self.last_stored = time.monotonic()
        width = features.values.shape[1]
        if width != self.model.feature_dim:
            raise StudyError(
                f"the stored features have {width} dimensions, but those of {recipe.backbone} have "
                f"{self.model.feature_dim}: they are of another backbone"
            )

    def part_that_changes(self, model):
        return model.head

    def prepare_training(self, features):
        self.images = features
        self.inputs = features.on(self.device)
        self.image_ids = torch.as_tensor(self.rows, dtype=torch.int64)
        self.targets = torch.as_tensor(self.labels, dtype=torch.int64)
        self.optimizer, self.schedule = build_optimizer(self.recipe, self.changing, self.loss)

    def batches(self, epoch):
        """(features, labels) batches of one epoch, in the order of a `Trainer`."""
        order = epoch_batches(
            self.labels,
            self.recipe.batch_size,
            derived_seed(self.seed, "order", epoch),
            samples_per_class=self.recipe.samples_per_class,
        )
        for chosen in order:
            rows = send(self.image_ids[chosen], self.device)
            yield self.inputs[rows], send(self.targets[chosen], self.device)

    def embedder(self, features):
        """Function image ids (n,) → embeddings (n, dim); all images of an epoch are computed once."""
        values = features.on(self.device)
        known = {}

        def embeddings_of(image_ids):
            if self.epoch not in known:
                known.clear()
                known[self.epoch] = head_embeddings(self.changing, values, self.recipe.precision)
            return known[self.epoch][send(torch.as_tensor(image_ids), self.device)]

        return embeddings_of

    def store(self, saved, **more):
        now = time.monotonic()
        if self.epoch == self.recipe.epochs or now - self.last_stored >= SECONDS_BETWEEN_STATES:
            super().store(saved, **more)
            if saved is not None and self.epoch % saved.every == 0:
                self.last_stored = now
