"""Nearest neighbours equal brute force, and ties go to the smallest id."""

import numpy as np
import pytest
from helpers import unit

from dmlstudy.evaluate import search
from dmlstudy.evaluate.search import nearest_neighbours, nearest_other


def brute_force(queries, gallery, k, ids=None):
    """(similarities, rows) by sorting all pairs in float64."""
    ids = range(len(gallery)) if ids is None else ids
    products = queries.astype(np.float64) @ gallery.astype(np.float64).T
    rows = [
        sorted(range(len(gallery)), key=lambda row: (-line[row], ids[row]))[:k] for line in products
    ]
    return np.take_along_axis(products, np.array(rows), 1), np.array(rows)


def check(queries, gallery, k, ids=None):
    similarities, rows = nearest_neighbours(queries, gallery, k, ids=ids, threads=1)
    expected, order = brute_force(queries, gallery, k, ids)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(similarities, expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("count", [1, 19, 120])
def test_equals_brute_force(k, count):
    """Would catch wrong order, or a wrong path for few queries (FAISS has another for under 20)."""
    rng = np.random.default_rng(k)
    check(unit(rng, count, 16), unit(rng, 700, 16), k)


@pytest.mark.parametrize("k", [1, 3, 7])
@pytest.mark.parametrize("permuted", [False, True])
def test_ties_go_to_the_smallest_id(k, permuted):
    """Would catch ties left to FAISS's order, or decided by row where ids are given."""
    rng = np.random.default_rng(1)
    gallery = rng.integers(-1, 2, (300, 3)).astype(np.float32)
    queries = rng.integers(-1, 2, (40, 3)).astype(np.float32)
    check(queries, gallery, k, rng.permutation(300) if permuted else None)


@pytest.mark.parametrize("count", [1, 30])
def test_all_equal_vectors(count):
    """Would catch ties beyond the first k + 1 candidates that are ignored."""
    gallery = np.ones((500, 4), dtype=np.float32)
    ids = np.random.default_rng(2).permutation(500)
    rows = nearest_neighbours(gallery[:count], gallery, 5, ids=ids, threads=1)[1]
    assert (ids[rows] == np.arange(5)).all()


@pytest.mark.parametrize("count", [1, 30])
def test_thousands_of_duplicates(count):
    """Would catch ties lost because FAISS splits the gallery into blocks (of 1,024 vectors)."""
    rng = np.random.default_rng(3)
    gallery = rng.integers(-2, 3, (4500, 8)).astype(np.float32)
    best = np.full(8, 2, dtype=np.float32)
    places = rng.choice(4500, 3000, replace=False)
    gallery[places] = best
    ids = rng.permutation(4500)
    rows = nearest_neighbours(np.tile(best, (count, 1)), gallery, 4, ids=ids, threads=1)[1]
    assert (ids[rows] == np.sort(ids[places])[:4]).all()


def test_near_ties_are_settled_in_double_precision():
    """Would catch float32 similarities, in which vectors tie although one is closer."""
    gallery = np.zeros((60, 2), dtype=np.float32)
    gallery[:, 0] = 1
    gallery[:, 1] = np.arange(60) * 1e-9
    query = np.array([[1, 0.5]], dtype=np.float32)
    assert nearest_neighbours(query, gallery, 3, threads=1)[1].tolist() == [[59, 58, 57]]


def other_by_hand(queries, gallery, ids, own):
    """(similarity, id) of the best gallery image of each query whose id is not the query's own."""
    best = []
    for query, self_id in zip(queries.astype(np.float64), own, strict=True):
        others = [
            (-(query * vector).sum(), image)
            for vector, image in zip(gallery.astype(np.float64), ids, strict=True)
            if image != self_id
        ]
        best.append(min(others))
    return [-similarity for similarity, _ in best], [image for _, image in best]


@pytest.mark.parametrize("copies", [1, 2, 5])
def test_leaving_the_query_out(copies):
    """Would catch a query that finds itself, or a copy of it dropped in its place.

    Queries 0…29 are in the gallery, the others are not; ``copies`` images have the same embedding.
    """
    rng = np.random.default_rng(copies)
    gallery = np.repeat(unit(rng, 40, 6), copies, axis=0)
    ids = rng.permutation(1000)[: len(gallery)]
    chosen = rng.choice(len(gallery), 30, replace=False)
    queries = np.concatenate([gallery[chosen], unit(rng, 10, 6)])
    own = np.concatenate([ids[chosen], np.arange(1000, 1010)])
    similarities, rows = nearest_neighbours(queries, gallery, 2, ids=ids, threads=1)
    found = nearest_other(similarities, ids[rows], own)
    expected = other_by_hand(queries, gallery, ids, own)
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], atol=1e-12)


def test_leaving_the_query_out_needs_a_second_neighbour():
    """Would catch a gallery of one image, in which a query would be its own neighbour."""
    with pytest.raises(ValueError, match="at least two"):
        nearest_other(np.ones((3, 1)), np.zeros((3, 1), dtype=int), np.arange(3))


def test_k_larger_than_the_gallery():
    """Would catch FAISS's −1 for neighbours that do not exist."""
    rng = np.random.default_rng(4)
    similarities, rows = nearest_neighbours(unit(rng, 6, 5), unit(rng, 3, 5), 10)
    assert similarities.shape == rows.shape == (6, 3)
    assert (np.sort(rows, axis=1) == [0, 1, 2]).all()


def test_batches_of_queries_do_not_change_answers(monkeypatch):
    """Would catch answers in the wrong rows after the first batch of queries."""
    rng = np.random.default_rng(5)
    queries, gallery = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (50, 90))
    monkeypatch.setattr(search, "QUERY_BATCH", 7)
    check(queries, gallery, 2)


def test_ties_of_a_whole_gallery_do_not_fill_the_memory(monkeypatch):
    """Would catch a collapsed model that needs gigabytes, because each query has the gallery as candidates."""
    rng = np.random.default_rng(5)
    base = unit(rng, 3, 16)
    gallery, queries = base[rng.integers(0, 3, 900)], base[rng.integers(0, 3, 60)]
    expected = nearest_neighbours(queries, gallery, 7, threads=1)
    sizes = []
    sorted_ = search._sorted

    def spy(some, gallery, candidates, ids, k):
        sizes.append(candidates.size)
        return sorted_(some, gallery, candidates, ids, k)

    monkeypatch.setattr(search, "_sorted", spy)
    monkeypatch.setattr(search, "CANDIDATES", 2000)
    found = nearest_neighbours(queries, gallery, 7, threads=1)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert max(sizes) <= 2000


def test_threads_do_not_change_answers():
    """Would catch similarities whose sums depend on the number of threads."""
    rng = np.random.default_rng(6)
    queries, gallery = unit(rng, 200, 64), unit(rng, 1500, 64)
    first, second = (nearest_neighbours(queries, gallery, 5, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["queries", "gallery"])
def test_values_that_are_not_finite_are_refused(value, where):
    """Would catch a model that diverged, whose neighbours would be arbitrary."""
    arrays = {"queries": np.ones((2, 3), np.float32), "gallery": np.ones((4, 3), np.float32)}
    arrays[where][1, 1] = value
    with pytest.raises(ValueError, match="not finite"):
        nearest_neighbours(**arrays)


def test_empty_gallery_is_refused():
    """Would catch a search in an empty gallery."""
    with pytest.raises(ValueError, match="empty"):
        nearest_neighbours(np.ones((2, 3), np.float32), np.ones((0, 3), np.float32))


def test_unequal_dimensions_are_refused():
    """Would catch embeddings of two models compared with each other."""
    with pytest.raises(ValueError, match="do not fit"):
        nearest_neighbours(np.ones((2, 3), np.float32), np.ones((4, 5), np.float32))
