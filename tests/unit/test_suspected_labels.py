"""Photographs whose label may be wrong: what is found, and the page that shows them."""

import re

import numpy as np
import pytest
from helpers import TinyStudy

from dmlstudy.evaluate.suspected_labels import neighbour_shares, suspected_labels
from dmlstudy.pages.suspects_page import named, suspects_page


def clusters(classes=8, images=20, spread=0.25, seed=0):
    """Embeddings of clusters, in a gallery and queries in a mixed order, and the true classes by id."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), images)
    vectors = draw.standard_normal((classes, 16))[labels]
    vectors += spread * draw.standard_normal(vectors.shape)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    order = draw.permutation(len(labels))
    gallery, queries = order[: len(order) * 4 // 5], order[len(order) * 4 // 5 :]
    embeddings = {
        "gallery_embeddings": vectors[gallery],
        "gallery_image_ids": gallery,
        "query_embeddings": vectors[queries],
        "query_image_ids": queries,
    }
    return embeddings, labels


def test_planted_labels_are_found_first():
    """Would catch labels that are read for other images, or right labels that are called suspect."""
    embeddings, truth = clusters()
    assert suspected_labels(embeddings, truth, threads=1).empty
    given = truth.copy()
    wrong = [3, 47, 90, 155]
    given[wrong] = (truth[wrong] + 3) % 8
    table = suspected_labels(embeddings, given, threads=1)
    assert sorted(table["image_id"]) == wrong
    assert (table["suggested_class_id"] == truth[table["image_id"]]).all()
    assert (table["class_id"] == given[table["image_id"]]).all()
    assert table["score"].is_monotonic_increasing
    assert (truth[table["nearest_image_id"]] == truth[table["image_id"]]).all()
    assert (table["nearest_image_id"] != table["image_id"]).all()


def test_shares_equal_an_obvious_search():
    """Would catch an image that votes for itself: compared with a loop over images."""
    embeddings, labels = clusters(classes=4, images=6, spread=1.0)
    ids, shares, nearest = neighbour_shares(embeddings, labels, threads=1)
    vectors = np.concatenate([embeddings["gallery_embeddings"], embeddings["query_embeddings"]])
    for row, one in enumerate(vectors.astype(float)):
        similar = vectors.astype(float) @ one
        similar[row] = -np.inf
        near = np.argsort(-similar, kind="stable")[:5]
        assert nearest[row] == ids[near[0]]
        expected = np.bincount(labels[ids[near]], minlength=4) / 5
        assert shares[row] == pytest.approx(expected)


def test_exact_copies_do_not_hide_each_other():
    """Would catch an image with many equal ones that keeps itself and loses a neighbour."""
    embeddings, labels = clusters(classes=2, images=6)
    embeddings["gallery_embeddings"][:] = embeddings["gallery_embeddings"][0]
    embeddings["query_embeddings"][:] = embeddings["gallery_embeddings"][0]
    _, shares, _ = neighbour_shares(embeddings, labels, threads=1)
    assert shares.sum(axis=1) == pytest.approx(1)


def test_page_and_table_name_the_photographs(tmp_path):
    """Would catch a page with photographs of other images, or one that needs the network."""
    study = TinyStudy(tmp_path)
    dataset = study.dataset()
    embeddings, truth = clusters(classes=6, images=6, spread=0.1)
    given = truth.copy()
    given[7] = 4
    table = named(
        suspected_labels(embeddings, given, threads=1),
        study.manifest,
        dataset.parts,
        dataset.class_names,
    )
    row = table[table["image_id"] == 7].iloc[0]
    assert row["path"] == "1_1.png"
    assert (row["class_name"], row["suggested_class_name"]) == ("class 4", "class 1")
    assert row["part"] == dataset.parts[7]
    page = suspects_page(
        table, study.test_pack, study.manifest, experiment="<Mine>", untrained=True, note="drawn"
    )
    assert page.count("data:image/webp") == 2 * len(table)
    assert "labelled <b>class 4</b>, neighbours say <b>class 1</b>" in page
    assert "<Mine>" not in page
    assert "not trained on the labels" in page
    assert not re.search(r'(src|href)="http', page)
