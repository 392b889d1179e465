"""A finished run's model, for photographs that no pack holds."""

import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from dmlstudy.compute.batches import MEAN, STD, ImageBatches
from dmlstudy.compute.devices import choose_device, prepare
from dmlstudy.compute.embedding import embed, images_at_a_time, normalised
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone
from dmlstudy.compute.small_maps import trim_to
from dmlstudy.core.files import StudyError
from dmlstudy.data.images import open_rgb
from dmlstudy.data.pack import parse_resize, resized_size
from dmlstudy.train.building import build_piece

NEEDED = ("model", "recipe", "test_resize", "mean", "std")
NEEDED_OF_RECIPE = (
    "backbone",
    "head",
    "frozen_batchnorm",
    "image_size",
    "precision",
    "compute_threads",
    "device",
)


def load_model(path):
    """What model.pt holds, its weights in place: (`EmbeddingModel` in eval mode on the CPU, contents).

    Nothing is unpickled. Raises StudyError for a file that is not one, lacks something, or that this
    version of the project cannot build.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise StudyError(f"{path}: missing") from None
    except Exception as error:
        first = str(error).splitlines()[0]
        raise StudyError(f"{path}: not a model that can be loaded safely: {first}") from None
    for name, value, keys in (
        ("", stored, NEEDED),
        ("recipe.", stored.get("recipe") if isinstance(stored, dict) else None, NEEDED_OF_RECIPE),
    ):
        if not isinstance(value, dict):
            raise StudyError(f"{path}: not a run's model.pt, which holds weights and their recipe")
        for key in keys:
            if key not in value:
                raise StudyError(
                    f"{path}: {name}{key} is missing; it is not a run's model.pt, or one of "
                    "another version of this project"
                )
    if (tuple(stored["mean"]), tuple(stored["std"])) != (MEAN, STD):
        raise StudyError(
            f"{path}: its images were normalised by other means and deviations than this version's"
        )
    recipe = stored["recipe"]
    try:
        backbone, features = build_backbone(recipe["backbone"])
        head = build_piece("head", recipe["head"], features)
        model = EmbeddingModel(backbone, head, recipe["frozen_batchnorm"])
        model.load_state_dict(stored["model"])
    except (StudyError, KeyError, TypeError, RuntimeError) as error:
        raise StudyError(
            f"{path}: this version of the project cannot build the model of its recipe: {error}"
        ) from None
    # As in training: the same weights in the same operations give the same sums.
    trim_to(model.backbone, recipe["image_size"])
    return model.eval(), stored


class TrainedModel:
    """The model of a run, on the device that its recipe allows. StudyError as `load_model`."""

    def __init__(self, path):
        model, stored = load_model(path)
        recipe = stored["recipe"]
        # A model that was trained on a GPU answers on a machine without one, too.
        self.device = choose_device("cpu" if recipe["device"] == "cpu" else "auto")
        prepare(self.device, recipe["compute_threads"])
        self.model = model.to(self.device, memory_format=torch.channels_last)
        self.resize = parse_resize(stored["test_resize"])
        self.image_size, self.precision = recipe["image_size"], recipe["precision"]
        self.threads = recipe["compute_threads"]

    def embed(self, paths, *, max_pixels, progress=None):
        """Embeddings of photographs, decoded as the test pack is: (embeddings, readable, problems).

        ``embeddings``: float32 (n, dim), L2-normalised, of the paths in ``readable`` (n), in the order
        given; ``problems``: a sentence for each that cannot be read. ``progress(count)`` is called
        as photographs are done. Batches are those of `embedding.embed`: sums of a photograph depend
        in the last bits on how many are embedded with it.
        """
        parts, readable, problems = [], [], []
        size = images_at_a_time(self.device, self.image_size)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(paths), size):
                chunk = paths[start : start + size]
                pictures = []
                decoded = pool.map(lambda path: self._decode(path, max_pixels), chunk)
                for path, picture in zip(chunk, decoded, strict=True):
                    if isinstance(picture, str):
                        problems.append(picture)
                    else:
                        readable.append(path)
                        pictures.append(picture)
                if pictures:
                    images = ImageBatches(_as_pack(pictures), self.image_size, self.device)
                    rows = range(len(pictures))
                    parts.append(normalised(embed(self.model, images, rows, self.precision)))
                if progress:
                    progress(len(chunk))
        embeddings = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
        if not np.isfinite(embeddings).all():
            raise StudyError("the model gives embeddings that are not finite")
        return embeddings, readable, problems

    def _decode(self, path, max_pixels):
        """Pixels (height, width, 3) after the test resize, or a sentence that says why not."""
        try:
            picture = open_rgb(path, max_pixels=max_pixels)
            size = resized_size(*picture.size, *self.resize)
            if size[0] * size[1] > max_pixels:
                return f"{path}: too long and narrow to be resized"
            if picture.size != size:
                picture = picture.resize(size, Image.Resampling.BILINEAR)
            return np.asarray(picture)
        except StudyError as error:
            return str(error)
        except Exception as error:
            # Decoders raise what they like at a broken file; the other photographs have an answer.
            return f"{path}: the picture is broken: {error!r}"


def _as_pack(pictures):
    """Arrays (height, width, 3) of uint8 as a `Pack` in memory."""
    heights, widths = np.array([picture.shape[:2] for picture in pictures], dtype=np.int64).T
    ends = np.cumsum(heights * widths * 3)
    return SimpleNamespace(
        pixels=np.concatenate([picture.reshape(-1) for picture in pictures]),
        offsets=np.concatenate([[0], ends[:-1]]),
        heights=heights,
        widths=widths,
    )
