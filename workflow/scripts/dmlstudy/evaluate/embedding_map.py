"""A two-dimensional map of an embedding, by UMAP. Does not import torch."""

import warnings

import numpy as np
import pandas as pd

from dmlstudy.evaluate.metrics import distance
from dmlstudy.evaluate.search import nearest_neighbours

NEIGHBOURS = 15  # UMAP's default
# Images on a map at most. UMAP takes half a minute for as many, and a page holds their thumbnails.
MOST_IMAGES = 12_000
# Images that a class on the map has at least, as far as it has them.
LEAST_OF_A_CLASS = 20


def on_map(class_ids, seed, most=MOST_IMAGES):
    """Which images are on a map: booleans (n,), at most ``most`` of them.

    ``class_ids`` (n,): of all images. Up to ``most`` images, all are. Of more, there are equally many
    images of each class; if these would be fewer than `LEAST_OF_A_CLASS`, some classes are left out, so
    that the others can show whether their images lie together. The same seed chooses the same images.
    """
    count = len(class_ids)
    if count <= most:
        return np.ones(count, dtype=bool)
    rng = np.random.default_rng(seed)
    classes, positions = np.unique(class_ids, return_inverse=True)
    each = max(LEAST_OF_A_CLASS, most // len(classes))
    # Images in random order, class by class, and their number within their class.
    order = rng.permutation(count)
    order = order[np.argsort(positions[order], kind="stable")]
    sizes = np.bincount(positions)
    number = np.arange(count) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = np.minimum(sizes, each)
    # Whole classes in random order, as long as they fit.
    drawn = rng.permutation(len(classes))
    chosen = np.zeros(len(classes), dtype=bool)
    chosen[drawn[np.cumsum(kept[drawn]) <= most]] = True
    result = np.zeros(count, dtype=bool)
    result[order] = (number < each) & chosen[positions[order]]
    return result


def embedding_map(embeddings, *, seed, chosen=None, neighbours=NEIGHBOURS, threads=None):
    """Coordinates of gallery and queries as a table: image_id, is_query (0 or 1), x, y.

    ``embeddings``: mapping as for `retrieval.answer_queries`, rows of unit length; ``chosen``: boolean mask
    over all images by id, those that are on the map (see `on_map`); by default all. UMAP (McInnes,
    Healy, Melville, arXiv:1802.03426) is fitted on the gallery, from the Euclidean distances of
    each image to its ``neighbours`` exact nearest neighbours. Queries are then transformed into the
    map; they do not change it. Only neighbourhoods are meaningful. The axes mean nothing, and
    distances between groups mean little. The same ``seed`` gives the same numbers on the same
    machine. A gallery smaller than ``neighbours`` is used whole. A gallery of fewer than three
    images has no neighbourhoods: all points are at 0.
    """
    gallery, queries = embeddings["gallery_embeddings"], embeddings["query_embeddings"]
    gallery_ids, query_ids = embeddings["gallery_image_ids"], embeddings["query_image_ids"]
    if chosen is not None:
        gallery, queries = gallery[chosen[gallery_ids]], queries[chosen[query_ids]]
        gallery_ids, query_ids = gallery_ids[chosen[gallery_ids]], query_ids[chosen[query_ids]]
    points = [np.zeros((len(rows), 2), dtype=np.float32) for rows in (gallery, queries)]
    if len(gallery) > 2:
        points = _umap(gallery, queries, gallery_ids, seed, neighbours, threads)
    x, y = np.concatenate(points).T
    return pd.DataFrame(
        {
            "image_id": np.concatenate([gallery_ids, query_ids]),
            "is_query": np.repeat([0, 1], [len(gallery_ids), len(query_ids)]),
            "x": x,
            "y": y,
        }
    )


def _start(values, seed):
    """Initial positions on the map (n, 2): first two principal components of ``values`` (n, dim).

    This preserves large distances (Kobak and Linderman, Nature Biotechnology 39, 2021). UMAP's own
    initialisation draws from NumPy's global state if the graph of neighbours has several connected
    components, as it has once classes are well separated. Then each call would give another map.
    """
    centred = values.astype(np.float64) - values.mean(axis=0, dtype=np.float64)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, -1:-3:-1]
    # The sign of an eigenvector is arbitrary. Its largest entry is made positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    start = centred @ axes
    start *= 10 / max(np.abs(start).max(), 1e-6)
    # Equal embeddings (a collapsed model gives no others) must not all start at one point.
    noise = np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
    return (start + noise).astype(np.float32)


def _umap(gallery, queries, ids, seed, neighbours, threads):
    """Coordinates of gallery (m, 2) and queries (n, 2), float32."""
    import umap
    from scipy.sparse import csr_matrix

    # UMAP lets Numba cache most compiled functions, but not these two, which take longest to
    # compile. Without a cache, a map of a few hundred images would spend most of its time
    # compiling.
    for function in (umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths):
        function.enable_caching()
    count = len(gallery)
    width = min(neighbours, count - 1)

    def distances(rows):
        similarities, found = nearest_neighbours(rows, gallery, width, ids=ids, threads=threads)
        return distance(similarities), found

    # FAISS finds exact neighbours; UMAP would find approximate ones. At this size FAISS is faster,
    # and most of the code that UMAP would compile at each start is not needed.
    lengths, columns = distances(gallery)
    rows = np.repeat(np.arange(count), width)
    # Each pair in both directions, without duplicates, and each image with itself at distance 0.
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
        # UMAP warns of two things that are intended: precomputed distances, and one thread for a
        # seed.
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
