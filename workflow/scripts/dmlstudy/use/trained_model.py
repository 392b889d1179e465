"""The model of a finished run, for photographs from outside of the study."""

import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.devices import autocast, choose_device, prepare
from dmlstudy.compute.embedding import embed, images_at_a_time, normalised
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone, trim_small_maps
from dmlstudy.compute.small_maps import SmallMapConv2d
from dmlstudy.core.files import StudyError
from dmlstudy.data.images import open_rgb
from dmlstudy.data.resizing import parse_resize
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
# Layers whose weights autocast casts.
CAST = (nn.Conv2d, nn.Linear, SmallMapConv2d)


def load_model(path, device="cpu", *, plain=False):
    """What model.pt holds, its weights in place: (`EmbeddingModel` in eval mode, contents).

    ``device``: see `choose_device`; a recipe for the CPU stays there. ``plain``: leave the network as its
    authors wrote it, without the convolutions of `small_maps`. Nothing is unpickled. Raises
    StudyError for a file that is not a run's model, that lacks something, or that this version of the
    project cannot build.
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
    recipe = stored["recipe"]
    try:
        backbone = build_backbone(recipe["backbone"], recipe["image_size"])
        # As it was trained, even if this version has other values for the backbone.
        backbone.preprocessing = backbone.preprocessing._replace(
            mean=tuple(stored["mean"]),
            std=tuple(stored["std"]),
            interpolation=parse_resize(stored["test_resize"]).interpolation,
        )
        head = build_piece("head", recipe["head"], backbone.feature_dim)
        model = EmbeddingModel(backbone, head, recipe["frozen_batchnorm"])
        model.load_state_dict(stored["model"])
    except (StudyError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StudyError(
            f"{path}: this version of the project cannot build the model of its recipe: {error}"
        ) from None
    device = choose_device("cpu" if recipe["device"] == "cpu" else device)
    if not plain:
        # As in training, so that the same weights give the same sums.
        trim_small_maps(model.backbone, recipe["image_size"], device)
    return model.eval().to(device), stored


class TrainedModel:
    """The model of a run, on the device that its recipe and ``device`` allow. StudyError as `load_model`."""

    def __init__(self, path, device="auto"):
        # A model that was trained on a GPU also runs on a machine without one.
        model, stored = load_model(path, device)
        recipe = stored["recipe"]
        self.device = next(model.parameters()).device
        prepare(self.device, recipe["compute_threads"])
        self.model = model.to(memory_format=torch.channels_last)
        self.resize = parse_resize(stored["test_resize"])
        self.image_size, self.precision = recipe["image_size"], recipe["precision"]
        self.threads = recipe["compute_threads"]
        self.mean, self.std = model.preprocessing.mean, model.preprocessing.std

    def embed(self, paths, *, max_pixels, progress=None):
        """Embeddings of photographs, decoded as the test pack is: (embeddings, readable, problems).

        ``embeddings``: float32 (n, dim), L2-normalised, of the paths in ``readable`` (n), in the order
        given; ``problems``: a sentence for each that cannot be read. ``progress(count)`` is called
        as photographs are done. Batches are those of `embedding.embed`: sums of a photograph depend
        in the last bits on how many are embedded with it.
        """
        parts, readable, problems = [], [], []
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(paths), self.at_a_time):
                chunk = paths[start : start + self.at_a_time]
                crops = []
                found = pool.map(lambda path: self.crop(path, max_pixels), chunk)
                for path, crop in zip(chunk, found, strict=True):
                    if isinstance(crop, str):
                        problems.append(crop)
                    else:
                        readable.append(path)
                        crops.append(crop)
                if crops:
                    parts.append(self.embed_crops(crops))
                if progress:
                    progress(len(chunk))
        embeddings = np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)
        return embeddings, readable, problems

    def keep_cast_weights(self):
        """Cast the weights now and for good. autocast casts them anew for every batch, which for a few photographs
        takes as long as the network. Embeddings stay the same; without autocast the model no longer computes.
        """
        with autocast(self.device, self.precision):
            if not torch.is_autocast_enabled(self.device.type):
                return
            precision = torch.get_autocast_dtype(self.device.type)
        for module in self.model.modules():
            # Exactly these: others may use their weights in another way.
            if type(module) in CAST:
                module.to(precision)

    @property
    def at_a_time(self):
        """How many photographs are embedded together."""
        return images_at_a_time(self.device, self.image_size)

    def embed_crops(self, crops):
        """Embeddings float32 (n, dim), L2-normalised, of crops from `crop`; StudyError if not finite."""
        images = self._batches(crops)
        embeddings = normalised(embed(self.model, images, range(len(crops)), self.precision))
        if not np.isfinite(embeddings).all():
            raise StudyError("the model gives embeddings that are not finite")
        return embeddings

    def pixels(self, crops):
        """What the network gets of crops from `crop`: float32 tensor (n, 3, size, size), normalised."""
        images = self._batches(crops)
        return images.normalise(images.centre(torch.arange(len(crops))))

    def _batches(self, crops):
        return ImageBatches(
            _as_pack(crops), self.image_size, self.device, mean=self.mean, std=self.std
        )

    def crop(self, path, max_pixels):
        """What the model sees of a photograph: uint8 (size, size, 3), or a sentence with the problem."""
        decoded = self._decode(path, max_pixels)
        if isinstance(decoded, str):
            return decoded
        # Cut here, so that no more than this is kept of a photograph.
        whole = ImageBatches(_as_pack([decoded]), self.image_size, torch.device("cpu"))
        return whole.centre(torch.tensor([0]))[0].permute(1, 2, 0).contiguous().numpy()

    def _decode(self, path, max_pixels):
        """Pixels (height, width, 3) after the test resize, or a sentence with the problem."""
        try:
            image = open_rgb(path, max_pixels=max_pixels)
            size = self.resize.size_of(*image.size)
            if size[0] * size[1] > max_pixels:
                return f"{path}: too long and narrow to be resized"
            return np.asarray(self.resize.apply(image))
        except StudyError as error:
            return str(error)
        except Exception as error:
            # Decoders raise any exception for a broken file; the other photographs still get an answer.
            return f"{path}: the image is broken: {error!r}"


def _as_pack(decoded_images):
    """Arrays (height, width, 3) of uint8 as a `Pack` in memory."""
    heights, widths = np.array([image.shape[:2] for image in decoded_images], dtype=np.int64).T
    ends = np.cumsum(heights * widths * 3)
    return SimpleNamespace(
        pixels=np.concatenate([image.reshape(-1) for image in decoded_images]),
        offsets=np.concatenate([[0], ends[:-1]]),
        heights=heights,
        widths=widths,
    )
