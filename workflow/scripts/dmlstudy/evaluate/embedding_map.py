"""A map of an embedding: two coordinates a point, by UMAP. No torch here."""

import warnings

import numpy as np
import pandas as pd

from dmlstudy.evaluate.metrics import distance
from dmlstudy.evaluate.search import nearest_neighbours

NEIGHBOURS = 15  # UMAP's default


def embedding_map(embeddings, *, seed, neighbours=NEIGHBOURS, threads=None):
    """Coordinates of gallery and queries as a table: image_id, part (gallery, query), x, y.

    ``embeddings``: mapping as for `evaluation.answer_queries`, rows of unit length. UMAP (McInnes,
    Healy, Melville, arXiv:1802.03426) is fitted on the gallery, with the Euclidean distances of its
    ``neighbours`` exact nearest images each; queries are transformed into it, so they move nothing.
    Only neighbourhoods mean something: not axes, and hardly distances between groups. The same
    ``seed`` gives the same numbers on the same machine. A gallery smaller than ``neighbours`` uses
    all of it; one of fewer than three images has no neighbourhoods, and all points lie at 0.
    """
    gallery, queries = embeddings["gallery_embeddings"], embeddings["query_embeddings"]
    points = {
        "gallery": np.zeros((len(gallery), 2), dtype=np.float32),
        "query": np.zeros((len(queries), 2), dtype=np.float32),
    }
    if len(gallery) > 2:
        ids = embeddings["gallery_image_ids"]
        points["gallery"], points["query"] = _umap(gallery, queries, ids, seed, neighbours, threads)
    return pd.concat(
        pd.DataFrame(
            {
                "image_id": embeddings[f"{part}_image_ids"],
                "part": part,
                "x": xy[:, 0],
                "y": xy[:, 1],
            }
        )
        for part, xy in points.items()
    )


def _start(values, seed):
    """Where ``values`` (n, dim) start on the map (n, 2): at their first two principal components.

    This keeps what lies far apart apart (Kobak and Linderman, Nature Biotechnology 39, 2021). UMAP's
    own start draws from NumPy's global state where the graph of neighbours falls into parts, as it
    does once classes are well separated: the map would be another one each time.
    """
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -1:-3:-1]
    # An eigenvector's sign is arbitrary: its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    start = centred @ axes
    start *= 10 / max(np.abs(start).max(), 1e-6)
    # Equal embeddings, of which a collapsed model makes nothing else, must not stay on one spot.
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
    return (start + noise).astype(np.float32)


def _umap(gallery, queries, ids, seed, neighbours, threads):
    """Coordinates of gallery (m, 2) and queries (n, 2)."""
    import umap
    from scipy.sparse import csr_matrix

    # UMAP has Numba keep most of what it compiles for the next start, but not these two, which take
    # longest: a map of a few hundred images would be compiling most of its time.
    for function in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths):
        function.enable_caching()
    count = len(gallery)
    width = min(neighbours, count - 1)

    def distances(rows):
        similarities, found = nearest_neighbours(rows, gallery, width, ids=ids, threads=threads)
        return distance(similarities), found

    # Exact neighbours by FAISS in place of UMAP's approximate ones: faster at this size, and most
    # of what would be compiled at every start is not needed.
    lengths, columns = distances(gallery)
    rows = np.repeat(np.arange(count), width)
    # Both directions of each pair, once, and every image with itself at distance 0.
    pairs = np.concatenate(
        [
            rows * count + columns.ravel(),
            columns.ravel() * count + rows,
            np.arange(count) * (count + 1),
        ]
    )
    values = np.concatenate([lengths.ravel(), lengths.ravel(), np.zeros(count)])
    values[pairs // count == pairs % count] = 0
    pairs, first = np.unique(pairs, return_index=True)
    shape = (count, count)
    graph = csr_matrix((values[first].astype(np.float32), (pairs // count, pairs % count)), shape)

    model = umap.UMAP(
        metric="precomputed",
        n_neighbors=width,
        init=_start(gallery, seed),
        random_state=seed,
        transform_seed=seed,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # It warns of what is meant: given distances, one thread for a seed.
        warnings.simplefilter("ignore", UserWarning)
        placed = model.fit_transform(graph)
        if not len(queries):
            return placed, np.zeros((0, 2), dtype=np.float32)
        lengths, columns = distances(queries)
        starts = np.arange(len(queries) + 1) * width
        near = csr_matrix(
            (lengths.ravel().astype(np.float32), columns.ravel(), starts), (len(queries), count)
        )
        return placed, model.transform(near)
