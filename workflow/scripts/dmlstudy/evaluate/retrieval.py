"""Answers queries from stored embeddings: nearest neighbours, votes and clusters."""

import logging

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import metrics
from dmlstudy.evaluate.search import cluster, nearest_neighbours

# Pairs of query and neighbour that are processed at a time. This takes some hundred megabytes.
PAIRS = 4_000_000


def read_embeddings(path):
    """The stored embeddings of a run, as a dictionary of arrays; see `answer_queries`.

    Raises StudyError, which names the file, if a value is not finite. An embedding of length 0 has
    similarity 0 to all others, so all of them tie. A warning logs how many of these there are.
    """
    with np.load(path) as stored:
        embeddings = dict(stored)
    for role in ("gallery", "query"):
        values = embeddings[f"{role}_embeddings"]
        broken = int((~np.isfinite(values)).any(axis=1).sum())
        if broken:
            raise StudyError(
                f"{path}: {broken} of {len(values)} {role} embeddings hold values that are not "
                "finite; the training diverged: lower its optimizer.lr and train it again"
            )
        empty = int((~values.any(axis=1)).sum())
        if empty:
            logging.warning(
                "%s: %d of %d %s embeddings are zero; they are equally close to all others",
                path, empty, len(values), role,
            )  # fmt: skip
    return embeddings


def answer_queries(embeddings, class_ids, **options):
    """The table of `answers_and_neighbours`, with the same arguments."""
    return answers_and_neighbours(embeddings, class_ids, **options)[0]


def answers_and_neighbours(
    embeddings, class_ids, *, recall_at=(1,), votes=(), with_r_precision=True, kept=1, threads=None
):
    """Search the gallery for each query: (a table with a row per query, its nearest images).

    ``embeddings``: mapping with ``gallery_embeddings`` (m, dim), ``gallery_image_ids`` (m,),
    ``query_embeddings`` (n, dim), ``query_image_ids`` (n,) and, for a classifier,
    ``query_softmax_class_ids`` (n,). ``class_ids``: class of each image, indexed by image id.
    ``recall_at``: the k of each recall@k. ``votes``: numbers of neighbours that vote. The nearest images are
    (similarities, image ids), both (n, ``kept``), nearest first.

    Columns: image_id, class_id, nearest_image_id, nearest_class_id, similarity (cosine), correct
    (0 or 1), first_correct_rank (0: not among the nearest max(``recall_at``)), vote_{n}_class_id for
    each n of ``votes`` above 1; with ``with_r_precision`` also r_precision and
    average_precision_at_r, which need as many neighbours as the largest class has images; for a
    classifier also softmax_class_id. A query whose class is not in the gallery counts as wrong. If
    the gallery is smaller than a number of neighbours, all gallery images are used.
    """
    gallery_ids, query_ids = embeddings["gallery_image_ids"], embeddings["query_image_ids"]
    gallery_classes, query_classes = class_ids[gallery_ids], class_ids[query_ids]
    relevant = np.bincount(gallery_classes, minlength=class_ids.max() + 1)[query_classes]
    votes = [n for n in votes if n > 1]
    width = max([kept, *recall_at, *votes])
    if with_r_precision:
        width = max(width, int(relevant.max(initial=1)))
    width = min(len(gallery_ids), width)
    step = max(1, PAIRS // width)
    chunks, found = [], []
    for start in range(0, len(query_ids), step):
        rows = slice(start, start + step)
        similarities, nearest = nearest_neighbours(
            embeddings["query_embeddings"][rows],
            embeddings["gallery_embeddings"],
            width,
            ids=gallery_ids,
            threads=threads,
        )
        neighbours = gallery_classes[nearest]
        matches = neighbours == query_classes[rows, None]
        table = pd.DataFrame(
            {
                "image_id": query_ids[rows],
                "class_id": query_classes[rows],
                "nearest_image_id": gallery_ids[nearest[:, 0]],
                "nearest_class_id": neighbours[:, 0],
                "similarity": similarities[:, 0],
                "correct": matches[:, 0].astype(int),
                "first_correct_rank": metrics.first_correct_rank(
                    matches[:, : max([1, *recall_at])]
                ),
            }
        )
        if with_r_precision:
            table["r_precision"], table["average_precision_at_r"] = metrics.r_precision(
                matches, relevant[rows]
            )
        for n in votes:
            table[f"vote_{n}_class_id"] = metrics.majority_vote(neighbours, n)[0]
        chunks.append(table)
        # Copies, so that the other neighbours can be forgotten.
        found.append((similarities[:, :kept].copy(), gallery_ids[nearest[:, :kept]]))
    table = pd.concat(chunks, ignore_index=True)
    if "query_softmax_class_ids" in embeddings:
        table["softmax_class_id"] = embeddings["query_softmax_class_ids"]
    return table, tuple(np.concatenate(one) for one in zip(*found, strict=True))


def neighbours_of(embeddings, class_ids, chosen, count, threads=None):
    """The ``count`` nearest gallery images of chosen queries: a row per neighbour, nearest first.

    ``chosen``: boolean mask over queries; the other arguments as in `answer_queries`. Columns:
    image_id, rank (1: nearest), nearest_image_id, nearest_class_id, similarity (cosine), distance
    (Euclidean).
    """
    ids = embeddings["gallery_image_ids"]
    similarities, rows = nearest_neighbours(
        embeddings["query_embeddings"][chosen],
        embeddings["gallery_embeddings"],
        count,
        ids=ids,
        threads=threads,
    )
    width = similarities.shape[1]
    found = ids[rows].ravel()
    return pd.DataFrame(
        {
            "image_id": np.repeat(embeddings["query_image_ids"][chosen], width),
            "rank": np.tile(np.arange(1, width + 1), len(rows)),
            "nearest_image_id": found,
            "nearest_class_id": class_ids[found],
            "similarity": similarities.ravel(),
            "distance": metrics.distance(similarities).ravel(),
        }
    )


def normalised_mutual_information(embeddings, class_ids, threads=None):
    """NMI between the classes of the queries and their k-means clusters, as many as classes."""
    from sklearn.metrics import normalized_mutual_info_score

    classes = class_ids[embeddings["query_image_ids"]]
    clusters = cluster(embeddings["query_embeddings"], len(np.unique(classes)), threads=threads)
    return float(normalized_mutual_info_score(classes, clusters))
