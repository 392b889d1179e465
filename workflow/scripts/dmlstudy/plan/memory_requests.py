"""Memory (MB) that rules request: what a recipe, or the size of a data set, is reckoned to need.

Rather too much than too little. benchmarks/memory_requests.py measures the programs beside it. Does not
import torch: what a backbone needs is in the facts of `backbones.Describer`.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from dmlstudy.core import source_code

MB = 2**20
# A program with pandas, NumPy and scikit-learn; one that imports torch; one that compiles UMAP.
TABLES, TORCH, UMAP = 300, 1100, 550
# A process that decodes images, without the image.
DECODER = 120
# Host memory of a program that uses a GPU: CUDA, its libraries, and buffers.
CUDA = 5000
# Gradients of activations and workspaces come on top of the activations; as in `compute.memory`.
BESIDE = 1.5
# Up to this many MB of activations a training on a CPU keeps freed memory, which can double it; see
# `train.trainer.SMALL`. It then stays below 4 GB.
KEPT_BELOW, KEPT_LIMIT = 1600, 4000
# Images that a CPU embeds at a time, see `compute.embedding`; heat maps at a time, see `explain.heatmaps`.
EMBEDDED, EXPLAINED = 64, 32
# Resamples at a time, see `evaluate.intervals`; arrays of eight bytes that a resample needs per query.
RESAMPLES, ARRAYS = 500, 5
# Similarities at a time, see `evaluate.scores.pieces`.
PAIRS = 2**24
# Images on a map at most, see `evaluate.embedding_map`.
ON_MAP = 12_000
# Side of a thumbnail, and of the sprite of all thumbnails of a data set at most, in pixels.
THUMBNAIL, SPRITE_SIDE = 40, 8192
# Pages of mapped packs count as memory of a process, but the system can drop them. More than this is not
# requested for them.
MAPPED_LIMIT = 32_000
# Megapixels of a photograph while the data set has not been listed, and bytes per pixel: as decoded, and
# a second time while it is turned, converted or resized.
PHOTOGRAPH, PIXEL = 50, 8
# Images of a data set whose size nobody knows: no manifest, no number of classes.
UNKNOWN_IMAGES, IMAGES_PER_CLASS = 12_000, 60
# Width : height of photographs, for packs that do not exist yet.
PROPORTION = 4 / 3


class Data(NamedTuple):
    """Size of a data set. ``largest``: megapixels of its largest image."""

    images: int
    classes: int
    largest: float = PHOTOGRAPH


def size_of(entry, manifest):
    """The `Data` of a data set: counted in its manifest if it exists, else estimated from its entry.

    Drawn data sets say how many images they have, others may. Else the number of classes may be known; then
    `IMAGES_PER_CLASS` are assumed, otherwise `UNKNOWN_IMAGES` in all. Snakemake asks again
    when the manifest exists.
    """
    if entry["drawn"]:
        drawn = entry["drawn"]
        images = drawn["classes"] * drawn["images_per_class"]
        return Data(images, drawn["classes"], (2 * drawn["image_size"]) ** 2 / 1e6)
    if Path(manifest).is_file():
        return _counted(str(manifest), Path(manifest).stat().st_mtime_ns)
    classes = entry["classes"]
    if entry["images"]:
        return Data(entry["images"], classes or max(1, entry["images"] // IMAGES_PER_CLASS))
    images = classes * IMAGES_PER_CLASS if classes else UNKNOWN_IMAGES
    return Data(max(images, UNKNOWN_IMAGES), classes or images // IMAGES_PER_CLASS)


_COUNTED = {}


def _counted(manifest, changed):
    """The `Data` of a manifest; it is read once per content."""
    key = manifest, changed
    if key not in _COUNTED:
        images, classes, largest = 0, set(), 0
        with open(manifest, encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                images += 1
                classes.add(row["class_id"])
                largest = max(largest, int(row["width"]) * int(row["height"]))
        _COUNTED[key] = Data(images, len(classes), largest / 1e6)
    return _COUNTED[key]


def packs(data, resizes):
    """MB of packs of a data set, by their names such as ``shorter246`` or ``squash224``."""
    total = 0
    for name in resizes:
        kind = name.partition("_")[0]
        side = int(kind.removeprefix("shorter").removeprefix("squash"))
        wide = PROPORTION if kind.startswith("shorter") else 1
        total += 3 * side * side * wide * data.images / MB
    return total


def _mapped(megabytes):
    return min(megabytes, MAPPED_LIMIT)


def _vectors(data, dim):
    """MB of the embeddings of all images."""
    return 4 * data.images * dim / MB


def width(recipe, facts):
    """Dimensions of a recipe's embedding."""
    return recipe.head.get("embedding_dim", facts["feature_dim"])


def training(recipe, facts, data, pack_megabytes, *, on_gpu):
    """A program that trains a `Recipe` and embeds all images.

    ``facts``: of the backbone; ``pack_megabytes``: of training and test pack; ``on_gpu``: whether the job
    gets a GPU, whose own memory is not part of the request.
    """
    dim = max(width(recipe, facts), facts["feature_dim"])
    footprint = facts["footprint"]
    # Embeddings as they come, together, normalised, and inside the search.
    common = _mapped(pack_megabytes) + _loss(recipe, data, dim) + 6 * _vectors(data, dim)
    # Weights, gradients, two moments, and a copy while they are stored or loaded.
    weights = 5 * footprint["weights"] / MB
    if on_gpu:
        return round(CUDA + weights + common)
    views = source_code.constant("augmentation", recipe.augmentation["kind"], "VIEWS")
    pixels = 3 * 4 * recipe.image_size**2
    activations = BESIDE * footprint["kept"] * recipe.batch_size * views / MB
    if activations <= KEPT_BELOW:
        activations = min(2 * activations, KEPT_LIMIT)
    if not recipe.epochs:
        activations = 0
    activations += 3 * pixels * recipe.batch_size * views / MB
    embedding = _embedding(footprint, recipe.image_size)
    return round(TORCH + weights + max(activations, embedding) + common)


def _loss(recipe, data, dim):
    """MB of proxies or class weights, with gradients and moments; logits of a classifier's queries."""
    centers = max(recipe.loss.get(key, 1) for key in ("centers_per_class", "sub_centers"))
    loss = 6 * 4 * data.classes * centers * dim + 2 * 4 * data.classes * recipe.batch_size
    if recipe.loss["kind"] in ("crossentropy", "normalized_softmax"):
        loss += 2 * 4 * data.images * data.classes / 2
    return loss / MB


def _embedding(footprint, image_size):
    """MB while a CPU embeds a batch."""
    return 2 * (footprint["live"] + 2 * 3 * 4 * image_size**2) * EMBEDDED / MB


def head_training(recipe, facts, data, *, on_gpu):
    """A program that trains a head on stored features; arguments as of `training`."""
    wide = facts["feature_dim"]
    dim = max(width(recipe, facts), wide)
    # The backbone is read and written with the model. A head has gradients and moments.
    weights = (3 * facts["footprint"]["weights"] + 6 * 4 * wide * dim) / MB
    common = _mapped(_vectors(data, wide)) + _loss(recipe, data, dim) + 6 * _vectors(data, dim)
    return round((CUDA if on_gpu else TORCH) + weights + common)


def features(entry, facts, data, pack_megabytes, *, on_gpu):
    """A program that computes features of all images; ``entry``: complete entry of an experiment."""
    weights = 3 * facts["footprint"]["weights"] / MB
    common = _mapped(pack_megabytes) + _mapped(_vectors(data, facts["feature_dim"])) + weights
    if on_gpu:
        return round(CUDA + common)
    return round(TORCH + common + _embedding(facts["footprint"], entry["image_size"]))


def explanation(facts, data, image_size, dim, models, shown, pack_megabytes):
    """Heat maps; ``shown``: how many queries are shown and scored; ``models``: class sets."""
    footprint, pixels = facts["footprint"], 3 * 4 * image_size**2
    maps = (BESIDE * footprint["kept"] + 3 * pixels) * EXPLAINED
    embedding = 2 * (footprint["live"] + 2 * pixels) * EMBEDDED
    images = 3 * pixels * 2 * shown
    weights = 2 * (models + 1) * footprint["weights"]
    vectors = (models + 2) * _vectors(data, dim)
    # At most these images of the pack are read: those shown and a few of each of their classes.
    read = min(pack_megabytes, 6 * shown * 4 * image_size**2 * 3 / MB)
    return round(
        TORCH + (max(maps, embedding) + images + weights) / MB + vectors + read + 2e-3 * data.images
    )


def evaluation(data, models, dim):
    """Tables of one experiment; ``models``: class sets, times seeds."""
    answers = 300 * models * data.images / MB
    resamples = 8 * ARRAYS * RESAMPLES * data.images * 0.4 / MB
    return round(TABLES + 200 + resamples + answers + 8 * _vectors(data, dim) + _tables(data))


def suspects(data, dim):
    """Suspected labels: the shares of all classes for each image, and cleanlab's copies of them."""
    return evaluation(data, 1, dim) + round(5.2 * 4 * data.images * data.classes / MB)


def rejection(data, dim):
    """Scores of two models at a time; some images at a time against the gallery, in double precision."""
    similarities = 4 * 8 * PAIRS / MB
    resamples = 8 * 3 * ARRAYS * RESAMPLES * data.images * 0.4 / MB
    covariance = 8 * 8 * dim * dim / MB
    return round(
        TABLES
        + 200
        + similarities
        + resamples
        + covariance
        + 12 * _vectors(data, dim)
        + _tables(data)
    )


def answering(data, dim, random_features):
    """Ways of answering of one model at a time; ``random_features``: width of a random projection, or 0."""
    resamples = 8 * ARRAYS * RESAMPLES * data.images * 0.4 / MB
    similarities = 4 * 8 * 10_000_000 / MB
    return round(
        TABLES
        + 200
        + resamples
        + similarities
        + _fitting(data, dim, random_features)
        + 8 * _vectors(data, dim)
        + _tables(data)
    )


def _fitting(data, dim, random_features):
    """What ways of answering need to be fitted, one after the other."""
    # Gram matrices and factors; the projections of all images; products of dimensions.
    width = min(random_features, 2 * data.images)
    squares = 8 * (4 * width**2 + 6 * dim**2) / MB
    projected = 6 * data.images * width / MB
    return squares + projected


def mapping(data, dim):
    """UMAP of one model at a time."""
    return round(UMAP + 5000 * min(data.images, ON_MAP) / MB + 8 * _vectors(data, dim))


def comparison(data, experiments, models):
    """Tables of the study; ``models``: of each experiment."""
    answers = 150 * experiments * models * data.images * 0.4 / MB
    resamples = 8 * ARRAYS * RESAMPLES * data.images * 0.4 / MB
    return round(TABLES + 100 + answers + resamples + _tables(data))


def options(data, count, seeds):
    """Scores of ``count`` options on the queries, and resamples of some of them: see `evaluate.verdict`."""
    scores = 8 * 3 * count * seeds * data.images * 0.4 / MB
    return round(scores + 8 * 10 * 10_000 * min(count, 256) / MB)


def measuring(facts, entry, *, on_gpu):
    """A program that embeds a batch with a network; ``entry``: complete entry of an experiment."""
    weights = 3 * facts["footprint"]["weights"] / MB
    if on_gpu:
        return round(CUDA + weights)
    return round(TORCH + weights + _embedding(facts["footprint"], entry["image_size"]))


def report(data, models):
    """The page of one experiment, which is compared with up to four others."""
    return round(comparison(data, 5, models) + 1500 * data.images * (1 + models / 2) / MB)


def index_page(data, experiments, models):
    """The page that compares all experiments, each with so many models."""
    return round(comparison(data, experiments, models) + 5 * experiments)


def tables(data):
    """A program that reads the manifest and writes tables of images or classes."""
    return round(TABLES + _tables(data))


def _tables(data):
    """MB of the manifest, split and class sets as data frames, with copies."""
    return 2500 * data.images / MB


def thumbnails(data, side, pack_megabytes=0.0):
    """The sprite as Pillow and libwebp hold it, and the mapped pack."""
    pixels = min(side**2 * data.images, SPRITE_SIDE**2)
    return round(TABLES + 4 * 4 * pixels / MB + _mapped(pack_megabytes))


def listing(data, threads, max_pixels):
    """A program that opens every image; a thread holds one at a time."""
    megapixels = min(data.largest, max_pixels / 1e6)
    return round(TABLES + _tables(data) + threads * PIXEL * megapixels)


def packing(data, threads, max_pixels):
    """As `listing`, with a process for each image."""
    return listing(data, threads, max_pixels) + threads * DECODER


def gallery(data, dim, random_features):
    """A search index of one model, which answers in several ways; ``random_features`` as in `answering`."""
    fitting = _fitting(data, dim, random_features)
    return round(TORCH + fitting + 5 * _vectors(data, dim) + _tables(data))
