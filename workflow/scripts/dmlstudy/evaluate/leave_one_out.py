"""Recall among unseen classes only, each of their images left out once.

This is how deep metric learning is usually evaluated: classes 1 to 100 of CUB-200-2011 for training, and
each image of classes 101 to 200 is searched among all other images of those (Song et al., Deep Metric
Learning via Lifted Structured Feature Embedding, CVPR 2016).
"""

import numpy as np
import pandas as pd

from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.metrics import first_correct_rank
from dmlstudy.evaluate.search import nearest_neighbours


def leave_one_out(embeddings, class_ids, chosen, *, recall_at=(1,), threads=None):
    """Search each image of some classes among all other images of these classes.

    ``embeddings``, ``class_ids``: see `retrieval.answer_queries`; gallery images and queries count alike.
    ``chosen``: boolean mask over classes. Returns a table with a row per image: image_id, class_id,
    first_correct_rank (0: no image of the class among the nearest max(``recall_at``)). An image that is
    the only one of its class has rank 0.
    """
    ids, vectors = (
        np.concatenate([embeddings[f"{role}_{what}"] for role in ("gallery", "query")])
        for what in ("image_ids", "embeddings")
    )
    own = chosen[class_ids[ids]]
    ids, vectors = ids[own], vectors[own]
    classes = class_ids[ids]
    if len(ids) < 2:
        ranks = np.zeros(len(ids), dtype=np.int64)
    else:
        neighbours = nearest_others(vectors, ids, max(recall_at), threads=threads)
        ranks = first_correct_rank(classes[neighbours] == classes[:, None])
    return pd.DataFrame({"image_id": ids, "class_id": classes, "first_correct_rank": ranks})


def nearest_others(vectors, ids, k, *, threads=None):
    """Rows of the ``k`` nearest vectors of each one, itself left out: (n, min(k, n - 1)), nearest first.

    ``vectors`` (n, dim), ``ids`` (n,): see `search.nearest_neighbours`; n is at least 2.
    """
    _, rows = nearest_neighbours(vectors, vectors, k + 1, ids=ids, threads=threads)
    others = rows != np.arange(len(ids))[:, None]
    # Exact copies of an image may take all places before the image itself.
    others[others.all(axis=1), -1] = False
    return rows[others].reshape(len(ids), -1)


def recall(table, k):
    """Recall@k of a table of `leave_one_out`; NaN without images."""
    return float(_hits(table, k).mean()) if len(table) else float("nan")


def recall_over_runs(tables, recall_at, *, draws, seed):
    """Recall@k over seeds and draws of unseen classes: {k: (values (seeds,), (low, high))}.

    ``tables``: {draw of unseen classes: a table of `leave_one_out` per seed}; ``recall_at``: the k. A
    value is the mean over draws; the interval is the 95 % bootstrap interval of the mean over seeds,
    images resampled.
    """
    everything = [table for of_draw in tables.values() for table in of_draw]
    images = 1 + max(int(table["image_id"].max()) for table in everything)
    seeds = len(next(iter(tables.values())))
    numerators, denominators = np.zeros((len(recall_at), seeds, images)), np.zeros(images)
    for of_seeds in tables.values():
        share = 1 / len(of_seeds[0]) / len(tables)
        denominators[of_seeds[0]["image_id"]] += share
        for position, table in enumerate(of_seeds):
            for row, k in enumerate(recall_at):
                numerators[row, position, table["image_id"]] += _hits(table, k) * share
    counted = denominators > 0
    means = numerators.mean(axis=1)[:, counted].T
    samples = bootstrap(means, denominators[counted], draws=draws, seed=seed)
    return {
        k: (values.sum(axis=1) / denominators.sum(), percentile_interval(column))
        for k, values, column in zip(recall_at, numerators, samples.T, strict=True)
    }


def _hits(table, k):
    ranks = table["first_correct_rank"].to_numpy()
    return (ranks >= 1) & (ranks <= k)
