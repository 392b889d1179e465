"""Nearest-neighbour search and k-means with FAISS."""

import contextlib
import functools
import logging
from pathlib import Path

import numpy as np

# Candidates whose similarities differ by less than this may tie; they are compared exactly.
TIE_MARGIN = 1e-6
QUERY_BATCH = 4096
# Candidates at a time. Where very many tie, as in a collapsed model, each query has the whole gallery as such.
CANDIDATES = 2**22
# Bytes of GPU memory that FAISS may use. A training reserves them; see `compute.memory`.
GPU_MEMORY = 2**28


@functools.cache
def _gpus():
    """Number of GPUs that FAISS can use. Logs a warning if this build of FAISS cannot use a GPU."""
    import faiss

    count = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    if not count and Path("/dev/nvidia0").exists():
        logging.getLogger(__name__).warning(
            "there is a GPU, but FAISS searches on the CPU (faiss-cpu is installed); "
            "`make env` on this machine installs faiss-gpu"
        )
    return count


@functools.cache
def _gpu_resources():
    """FAISS's GPU resources, shared by all searches.

    Its default would reserve 1.5 GB of the GPU.
    """
    import faiss

    resources = faiss.StandardGpuResources()
    resources.setTempMemory(GPU_MEMORY)
    return resources


class _Index:
    """An exact index on the CPU and, with ``on_gpu``, on the GPU.

    Searches for more neighbours than the GPU supports use the CPU.
    """

    # FAISS finds no more neighbours than this on a GPU.
    MAX_ON_GPU = 2048

    def __init__(self, gallery, on_gpu):
        import faiss

        self.flat = faiss.IndexFlatIP(gallery.shape[1])
        self.flat.add(gallery)
        self.on_gpu = None
        if on_gpu and _gpus():
            with self._fall_back():
                self.on_gpu = faiss.index_cpu_to_gpu(_gpu_resources(), 0, self.flat)

    @contextlib.contextmanager
    def _fall_back(self):
        """If FAISS cannot use the GPU (mostly for lack of memory), log it and use the CPU."""
        try:
            yield
        except RuntimeError as error:
            self.on_gpu = None
            logging.getLogger(__name__).warning(
                "FAISS cannot search on the GPU, so it searches on the CPU: %s", error
            )

    def search(self, queries, k):
        """(similarities, rows) of FAISS, both (queries, k)."""
        if self.on_gpu is not None and k <= self.MAX_ON_GPU:
            with self._fall_back():
                return self.on_gpu.search(queries, k)
        return self.flat.search(queries, k)


def nearest_neighbours(queries, gallery, k=1, *, ids=None, threads=None, on_gpu=False):
    """The ``k`` nearest gallery rows of each query by inner product (cosine, if normalised).

    ``queries`` (n, dim) and ``gallery`` (m, dim): float32, of about unit length (`TIE_MARGIN`).
    Returns ``(similarities, rows)``, float64 and int64, both (n, min(k, m)), nearest first. Ties go
    to the smaller row or, if ``ids`` (m,) are given, to the smaller id. FAISS proposes candidates;
    their similarities are then computed in double precision with a fixed order of summation, so
    that equal vectors tie exactly. ``on_gpu``: FAISS may use the first GPU that the process sees.
    Only a job that was given a GPU may set it; another would fill the memory of a training's GPU.
    Raises ValueError for an empty gallery, unequal dimensions or values that are not finite.
    """
    # Imported here, after torch if torch is used: two OpenMP runtimes in one process can hang.
    import faiss

    queries = np.ascontiguousarray(queries, dtype=np.float32)
    gallery = np.ascontiguousarray(gallery, dtype=np.float32)
    if not len(gallery):
        raise ValueError("the gallery is empty")
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise ValueError(f"shapes {queries.shape} and {gallery.shape} do not fit")
    if not (np.isfinite(queries).all() and np.isfinite(gallery).all()):
        raise ValueError("embeddings hold values that are not finite")
    if threads:
        faiss.omp_set_num_threads(threads)
    ids = np.arange(len(gallery)) if ids is None else np.asarray(ids)
    k = min(k, len(gallery))
    index = _Index(gallery, on_gpu)
    similarities = np.empty((len(queries), k))
    rows = np.empty((len(queries), k), dtype=np.int64)
    for start in range(0, len(queries), QUERY_BATCH):
        batch = queries[start : start + QUERY_BATCH]
        pending = np.arange(len(batch))
        width = min(k + 1, len(gallery))
        while len(pending):
            left = []
            step = max(1, CANDIDATES // width)
            for first in range(0, len(pending), step):
                part = pending[first : first + step]
                approximate, candidates = index.search(batch[part], width)
                # If the last candidate is as close as the k-th, images that tie with it may be missing.
                scale = TIE_MARGIN * np.maximum(1, np.abs(approximate[:, k - 1]))
                incomplete = (approximate[:, k - 1] - approximate[:, -1] <= scale) & (
                    width < len(gallery)
                )
                done = ~incomplete
                exact, order = _sorted(batch[part[done]], gallery, candidates[done], ids, k)
                similarities[start + part[done]] = exact
                rows[start + part[done]] = order
                left.append(part[incomplete])
            pending = np.concatenate(left)
            width = min(2 * width, len(gallery))
    return similarities, rows


def _sorted(queries, gallery, candidates, ids, k):
    """(exact similarities, rows) of the best ``k`` candidates, nearest first, ties by id."""
    if not len(queries):
        return np.empty((0, k)), np.empty((0, k), dtype=np.int64)
    exact = np.empty(candidates.shape)
    wide = queries.astype(np.float64)
    # Along the shorter side, so that few queries with many candidates take few steps.
    if candidates.shape[1] > len(queries):
        for row, near in enumerate(candidates):
            exact[row] = (wide[row] * gallery[near]).sum(axis=1)
    else:
        for column in range(candidates.shape[1]):
            exact[:, column] = (wide * gallery[candidates[:, column]]).sum(axis=1)
    order = np.lexsort((ids[candidates], -exact), axis=1)[:, :k]
    return np.take_along_axis(exact, order, 1), np.take_along_axis(candidates, order, 1)


def nearest_other(similarities, neighbours, own):
    """The nearest neighbour of each query other than the query itself (leave one out).

    ``similarities`` and ``neighbours`` (n, at least 2): result of a search, nearest first; neighbours are
    rows of the gallery or ids. ``own`` (n,): the query's own row or id. The nearest neighbour is dropped
    only if it is the query itself: it may also be an exact copy of the query, or the query may not be in
    the gallery. Returns (similarities, neighbours), both (n,).
    Raises ValueError for fewer than two neighbours.
    """
    if neighbours.shape[1] < 2:
        raise ValueError("leaving a query out of its neighbours needs at least two of them")
    column = (neighbours[:, 0] == own).astype(int)
    rows = np.arange(len(neighbours))
    return similarities[rows, column], neighbours[rows, column]


def merge_neighbours(first, second, k):
    """Merge two searches of the same queries in two galleries that share no image.

    ``first``, ``second``: ``(similarities, ids)``, both (queries, any width), nearest first.
    Returns the ``k`` nearest in the same form. Ties go to the smaller id.
    """
    similarities, ids = (np.concatenate(pair, axis=1) for pair in zip(first, second, strict=True))
    order = np.lexsort((ids, -similarities), axis=1)[:, :k]
    return np.take_along_axis(similarities, order, 1), np.take_along_axis(ids, order, 1)


def cluster(embeddings, clusters, *, seed=1234, threads=None):
    """k-means labels (n,) of ``embeddings`` (n, dim), float32.

    It is FAISS's k-means with the iterations and seed that pytorch-metric-learning uses for NMI. It
    runs on the CPU, so that results repeat.
    """
    import faiss

    embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
    if threads:
        faiss.omp_set_num_threads(threads)
    # The seed is FAISS's default. FAISS warns if a cluster has fewer than 39 images; for NMI this
    # does not matter, so the limit is 1.
    kmeans = faiss.Kmeans(
        embeddings.shape[1], clusters, niter=20, seed=seed, gpu=False, min_points_per_centroid=1
    )
    kmeans.train(embeddings)
    return kmeans.index.search(embeddings, 1)[1][:, 0]
