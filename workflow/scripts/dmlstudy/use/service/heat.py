"""Where the model looks in a photograph when it finds it like a class, as a picture. See docs/heat-maps.md."""

import io
import threading

import numpy as np
from PIL import Image

from dmlstudy.core.files import StudyError
from dmlstudy.use.service.shelf import Missing


class HeatMaps:
    """Heat maps by the model of the file ``model``, a model of its own: they are made from gradients, while the
    other one embeds. It is loaded when the first map is asked for, on the CPU."""

    def __init__(self, model, max_pixels):
        self.path, self.max_pixels = model, max_pixels
        self._lock, self._model, self._layer = threading.Lock(), None, None

    def picture(self, photograph, gallery, class_id):
        """The part of a photograph that the model sees with its heat map for a class: (JPEG, name of the class).

        ``gallery``: a `Gallery`; ``class_id``: None for the class of the nearest photograph. StudyError if the
        photograph cannot be read; `Missing` if there is no such class.
        """
        with self._lock:
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
