"""Where the model looks in a photograph when it finds it like a class, as a picture. See docs/heat-maps.md."""

import contextlib
import io
import threading
import time

import numpy as np
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.use.service.engine import Full
from dmlstudy.use.service.shelf import Missing

# Heat maps that are made, one after another, or wait: each of them holds a thread that requests need.
MOST = 4


class HeatMaps:
    """Heat maps by the model of the file ``model``, a model of its own: they are made from gradients, while the
    other one embeds. It is loaded when the first map is asked for, on the CPU.

    ``threads``: those that answer requests; at most half of them are used, and one at least.
    """

    def __init__(self, model, max_pixels, threads):
        self.path, self.max_pixels = model, max_pixels
        self.most = max(1, min(MOST, threads // 2))
        self._counting, self._waiting, self._took = threading.Lock(), 0, 1
        self._lock, self._model, self._layer = threading.Lock(), None, None

    def picture(self, photograph, gallery, class_id):
        """The part of a photograph that the model sees with its heat map for a class: (JPEG, name of the class).

        ``gallery``: a `Gallery`; ``class_id``: None for the class of the nearest photograph. StudyError if the
        photograph cannot be read; `Missing` if there is no such class; `Full` if too many wait.
        """
        with self._turn():
            model = self._ready()
            crop = model.crop(photograph.path, self.max_pixels)
            if isinstance(crop, str):
                raise StudyError(crop)
            class_ids = gallery.table["class_id"].to_numpy()
            if class_id is None:
                similarities = gallery.embeddings @ model.embed_crops([crop])[0]
                class_id = int(class_ids[similarities.argmax()])
            images = class_ids == class_id
            if not images.any():
                raise Missing(f"there is no class {class_id}")
            heat = self._heat(model, crop, gallery.embeddings[images].mean(axis=0))
        from dmlstudy.explain.heatmap_files import overlay

        stream = io.BytesIO()
        Image.fromarray(overlay(crop, heat)).save(stream, "JPEG", quality=90)
        return stream.getvalue(), gallery.table["class_name"][images].iloc[0]

    @contextlib.contextmanager
    def _turn(self):
        """One map at a time; `Full` at once if too many wait."""
        with self._counting:
            if self._waiting >= self.most:
                raise Full(max(1, round(self._waiting * self._took)))
            self._waiting += 1
        try:
            with self._lock:
                begun = time.monotonic()
                yield
                self._took = time.monotonic() - begun
        finally:
            with self._counting:
                self._waiting -= 1

    def _ready(self):
        if self._model is None:
            # Here, because pytorch-grad-cam takes seconds to import.
            from dmlstudy.explain.heatmaps import choose_layer
            from dmlstudy.use.trained_model import TrainedModel

            self._model = TrainedModel(self.path, "cpu")
            self._layer = choose_layer(self._model.model, self._model.image_size)
        return self._model

    def _heat(self, model, crop, proxy):
        import torch

        from dmlstudy.explain.explanation import as_bytes
        from dmlstudy.explain.heatmaps import heat_maps

        torch.set_num_threads(model.threads)
        pixels = model.pixels([crop])
        return as_bytes(heat_maps(model.model, self._layer, pixels, np.stack([proxy])))[0]
