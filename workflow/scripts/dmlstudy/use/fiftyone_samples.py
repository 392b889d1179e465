"""A run's data set for tools that browse images: a sample per image, with what the run says of it."""

from pathlib import Path

import numpy as np

from dmlstudy.data.dataset import BOX
from dmlstudy.evaluate.metrics import majority_vote
from dmlstudy.evaluate.search import nearest_neighbours


def samples(
    manifest, dataset, embeddings, images_root, *, coordinates=None, neighbours=10, threads=None
):
    """A dictionary per image of ``manifest``, in its order; plain values, and None for what is unknown.

    ``dataset``: a `Dataset` of the run's class set; ``embeddings``: as `evaluation.read_embeddings`
    gives them; ``coordinates``: the run's map (image_id, x, y) or None.

    image_id; path (absolute); class_name; part (train, validation, test); unseen; box (left, top,
    width, height, as shares of the image); embedding (dim,), float32, of images that were embedded;
    place (x, y). Of queries also: neighbours, a list of (image_id, class_name, cosine similarity),
    nearest first, ``neighbours`` of them or as many as the gallery has; correct, whether the first is of
    the query's class; vote, the (class_name, share of the neighbours) of the majority; softmax, the
    class name that a classifier's own layer says.
    """
    root, names = Path(images_root).resolve(), np.array(dataset.class_names, dtype=object)
    vectors, answers = _vectors(embeddings), {}
    for query in _answers(dataset, embeddings, names, neighbours, threads):
        answers[query.pop("image_id")] = query
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
            **answers.get(image, none),
        }


def _vectors(embeddings):
    """{image_id: embedding} of gallery and queries."""
    return {
        image: vector
        for part in ("gallery", "query")
        for image, vector in zip(
            embeddings[f"{part}_image_ids"].tolist(), embeddings[f"{part}_embeddings"], strict=True
        )
    }


def _answers(dataset, embeddings, names, count, threads):
    """What the gallery says of each query."""
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
