"""Samples for FiftyOne: the images of a run's data set, with the run's predictions for each."""

from pathlib import Path

import numpy as np

from dmlstudy.data.dataset import BOX
from dmlstudy.evaluate.metrics import majority_vote
from dmlstudy.evaluate.search import nearest_neighbours


def samples(
    manifest, dataset, embeddings, images_root, *, coordinates=None, neighbours=10, threads=None
):
    """Yield a dictionary per image of ``manifest``, in its order. Unknown values are None.

    ``dataset``: a `Dataset` of the run's class set; ``embeddings``: as from
    `retrieval.read_embeddings`; ``coordinates``: the run's map (image_id, x, y) or None;
    ``neighbours``: how many neighbours of a query to give (at most the size of the gallery).

    Keys of all images: image_id, path (absolute), class_name, part (train, validation, test), unseen
    (bool), box (left, top, width, height, as shares of the image), embedding (float32 (dim,)),
    coordinates (x, y) on the map. Keys of queries, None for other images: neighbours (list of
    (image_id, class_name, cosine similarity), nearest first), correct (whether the nearest image has the
    query's class), vote ((class_name, share of the neighbours) of the majority), softmax (class name
    that the classification layer predicts, if the run has one).
    """
    root, names = Path(images_root).resolve(), np.array(dataset.class_names, dtype=object)
    vectors, predictions = _vectors(embeddings), {}
    for query in _predictions(dataset, embeddings, names, neighbours, threads):
        predictions[query.pop("image_id")] = query
    at = {}
    if coordinates is not None:
        at = {row.image_id: (row.x, row.y) for row in coordinates.itertuples()}
    none = dict.fromkeys(("neighbours", "correct", "vote", "softmax"))
    for row in manifest.to_dict("records"):
        image = row["image_id"]
        yield {
            "image_id": image,
            "path": str(root / row["path"]),
            "class_name": row["class_name"],
            "part": str(dataset.parts[image]),
            "unseen": bool(dataset.labels[image] < 0),
            "box": _box(row),
            "embedding": vectors.get(image),
            "coordinates": at.get(image),
            **predictions.get(image, none),
        }


def _vectors(embeddings):
    """The embeddings of gallery and queries as {image_id: float32 (dim,)}."""
    return {
        image: vector
        for part in ("gallery", "query")
        for image, vector in zip(
            embeddings[f"{part}_image_ids"].tolist(), embeddings[f"{part}_embeddings"], strict=True
        )
    }


def _predictions(dataset, embeddings, names, count, threads):
    """Yield the neighbours and predictions of each query (see `samples`)."""
    gallery_ids, query_ids = embeddings["gallery_image_ids"], embeddings["query_image_ids"]
    similarities, rows = nearest_neighbours(
        embeddings["query_embeddings"],
        embeddings["gallery_embeddings"],
        count,
        ids=gallery_ids,
        threads=threads,
    )
    nearest = gallery_ids[rows]
    classes = dataset.class_ids[nearest]
    voted, votes = majority_vote(classes, classes.shape[1])
    softmax = embeddings.get("query_softmax_class_ids")
    for index, image in enumerate(query_ids.tolist()):
        found = zip(nearest[index], names[classes[index]], similarities[index], strict=True)
        yield {
            "image_id": image,
            "neighbours": [(int(other), name, float(value)) for other, name, value in found],
            "correct": bool(classes[index, 0] == dataset.class_ids[image]),
            "vote": (names[voted[index]], float(votes[index] / classes.shape[1])),
            "softmax": None if softmax is None else names[softmax[index]],
        }


def _box(row):
    left, top, width, height = (row.get(name, np.nan) for name in BOX)
    if np.isnan(left):
        return None
    return (
        left / row["width"],
        top / row["height"],
        width / row["width"],
        height / row["height"],
    )
