"""Enrolment and rejection of unseen classes, on embeddings that can be worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from helpers import unit
from sklearn.metrics import roc_auc_score

from dmlstudy.evaluate import enrolment as enrolments
from dmlstudy.evaluate.enrolment import Enrolment, draw_images
from dmlstudy.evaluate.evaluation import oracle_accuracies
from dmlstudy.evaluate.rejection import reject, reject_by
from dmlstudy.evaluate.retrieval import answer_queries, answers_and_neighbours

# Directions in the plane by angle (degrees): classes 0 and 1 are seen, 2 and 3 are not.
SEEN = np.array([True, True, False, False])
GALLERY = [(0, 0), (10, 0), (90, 1), (100, 1), (120, 2), (200, 2), (212, 2), (300, 3)]
# (angle, class): nearest in the full gallery are 0, 1, 2 (120), 2 (200) and 3.
QUERIES = [(4, 0), (88, 1), (124, 2), (204, 2), (310, 3)]


def plane(points):
    angles = np.deg2rad([angle for angle, _ in points])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


@pytest.fixture
def paper():
    class_ids = np.array([class_id for _, class_id in GALLERY + QUERIES])
    embeddings = {
        "gallery_embeddings": plane(GALLERY),
        "gallery_image_ids": np.arange(8),
        "query_embeddings": plane(QUERIES),
        "query_image_ids": np.arange(8, 13),
    }
    return embeddings, class_ids


def test_before_and_after_enrolment(paper):
    """Would catch unseen classes in the gallery before they are enrolled, or missing after that."""
    curve = Enrolment(*paper, SEEN, votes=(3,)).curve((1,), 2, 0, bootstrap_draws=200)
    rows = curve.set_index(["images_per_class", "method"])
    for method in ("nearest_neighbour", "majority_vote_3", "class_mean"):
        none = rows.loc[(0, method)]
        assert (none["unseen_accuracy"], none["seen_accuracy"], none["harmonic_mean"]) == (0, 1, 0)
        assert (none["low"], none["high"]) == (0, 0)
    everything = rows.loc[("all", "nearest_neighbour")]
    assert (everything["unseen_accuracy"], everything["seen_accuracy"]) == (1, 1)
    # Three votes at 124 degrees: 120 (2), 100 (1), 90 (1). At 310: 300 (3), 0 (0), 10 (0).
    assert rows.loc[("all", "majority_vote_3"), "unseen_accuracy"] == pytest.approx(1 / 3)
    # The mean of class 2 (120, 200, 212) lies at 181 degrees: 124 is nearer to 95, the mean of 1.
    assert rows.loc[("all", "class_mean"), "unseen_accuracy"] == pytest.approx(2 / 3)
    assert set(curve["unseen_queries"]) == {3}
    assert set(curve["unseen_classes"]) == {2}


def twins():
    """(embeddings, class ids, seen) of 20 classes of 12 images, each of which is there twice: full of ties."""
    rng = np.random.default_rng(0)
    class_ids = np.repeat(np.arange(20), 12)
    vectors = np.repeat(unit(rng, 120, 4), 2, axis=0)
    ids = rng.permutation(240)
    embeddings = {
        "gallery_embeddings": vectors[ids[:200]],
        "gallery_image_ids": ids[:200],
        "query_embeddings": unit(rng, 40, 4),
        "query_image_ids": ids[200:],
    }
    return embeddings, class_ids, np.arange(20) < 8


@pytest.mark.parametrize("kept", [2, 6, 200])
def test_nearest_images_of_the_whole_gallery_answer_as_a_search_of_seen_classes(kept):
    """Would catch neighbours of unseen classes, lost ones of a query with few of seen classes, and ties."""
    embeddings, class_ids, seen = twins()
    nearest = answers_and_neighbours(embeddings, class_ids, kept=kept)[1]
    assert nearest[0].shape == nearest[1].shape == (40, kept)
    own = Enrolment(embeddings, class_ids, seen, votes=(3,), nearest=nearest)
    searched = Enrolment(embeddings, class_ids, seen, votes=(3,))
    for found, expected in zip(own.neighbours, searched.neighbours, strict=True):
        assert (found == expected).all()
    assert seen[class_ids[own.neighbours[1]]].all()


@pytest.mark.parametrize("times", [4, 8])
def test_a_ranking_of_all_unseen_images_answers_as_searches_do(monkeypatch, times):
    """Would catch images that a draw lacks, lost neighbours of a query whose ranking is too short, and ties."""
    options = twins()
    searched = Enrolment(*options, votes=(3,)).curve((1, 3, 6), 3, 0, bootstrap_draws=20)
    monkeypatch.setattr(enrolments, "RANKED_ABOVE", 10)
    monkeypatch.setattr(enrolments, "RANKED_TIMES", times)
    ranked = Enrolment(*options, votes=(3,))
    lengths = []
    search = ranked._search
    ranked._search = lambda rows, **more: lengths.append(more) or search(rows, **more)
    assert ranked.curve((1, 3, 6), 3, 0, bootstrap_draws=20).equals(searched)
    assert any("width" in one for one in lengths)
    # Some queries of small draws are searched again.
    assert any("queries" in one for one in lengths) == (times == 8)


def test_one_image_per_class_is_a_mean_over_draws(paper):
    """Would catch the same image in each draw, or draws that are not averaged."""
    enrolment = Enrolment(*paper, SEEN, votes=())
    found = set()
    expected = {4: (1, 1, 1), 5: (0, 1, 1), 6: (0, 1, 1)}
    accuracies = []
    for draw in range(30):
        rows = draw_images(enrolment.gallery_classes, enrolment.unseen_rows, 1, (0, draw)).tolist()
        assert len(rows) == 2
        assert rows[1] == 7
        found.add(rows[0])
        right = enrolment.answers(np.array(rows))["nearest_neighbour"] == enrolment.query_classes
        # With only 200 or 212 degrees enrolled, 124 is nearest to 100, which is of class 1.
        assert tuple(right[2:].astype(int)) == expected[rows[0]]
        accuracies.append(right[2:].mean())
    assert found == {4, 5, 6}
    row = enrolment.curve((1,), 30, 0, bootstrap_draws=200).query("images_per_class == 1").iloc[0]
    assert row["unseen_accuracy"] == pytest.approx(np.mean(accuracies))
    assert row["spread"] == pytest.approx(np.std(accuracies, ddof=1))
    assert row["draws"] == 30


def test_smaller_draws_are_part_of_larger_ones(paper):
    """Would catch a curve that falls because other images were drawn."""
    enrolment = Enrolment(*paper, SEEN)
    for draw in range(5):
        one, two = (
            set(
                draw_images(
                    enrolment.gallery_classes, enrolment.unseen_rows, size, (3, draw)
                ).tolist()
            )
            for size in (1, 2)
        )
        assert one < two


def test_everything_enrolled_equals_the_whole_gallery():
    """Would catch a merged search that finds other neighbours than one search of all images."""
    rng = np.random.default_rng(0)
    class_ids = rng.integers(0, 12, 400)
    # Copies of one vector in seen and unseen classes: ties across both parts.
    vectors = unit(rng, 400, 6)
    vectors[::9] = vectors[0]
    embeddings = {
        "gallery_embeddings": vectors[:300],
        "gallery_image_ids": np.arange(300)[::-1].copy(),
        "query_embeddings": vectors[300:],
        "query_image_ids": np.arange(300, 400),
    }
    seen = np.arange(12) < 8
    enrolment = Enrolment(embeddings, class_ids, seen, votes=(1, 5), threads=1)
    answers = enrolment.answers(enrolment.unseen_rows)
    table = answer_queries(embeddings, class_ids, votes=(5,), threads=1)
    assert answers["nearest_neighbour"].tolist() == table["nearest_class_id"].tolist()
    assert answers["majority_vote_5"].tolist() == table["vote_5_class_id"].tolist()
    curve = enrolment.curve((1, 2), 2, 0, bootstrap_draws=200)
    last = curve[(curve["images_per_class"] == "all") & (curve["method"] == "nearest_neighbour")]
    oracle = oracle_accuracies(table, seen)
    assert last["unseen_accuracy"].item() == oracle["all_classes_precision_at_1_unseen_classes"]
    assert last["seen_accuracy"].item() == oracle["all_classes_precision_at_1_seen_classes"]
    assert last["harmonic_mean"].item() == pytest.approx(oracle["all_classes_harmonic_mean"])


def test_unseen_class_without_a_gallery(paper):
    """Would catch an error in the evaluation because a class has no images to enrol."""
    embeddings, class_ids = paper
    part = {
        **embeddings,
        "gallery_embeddings": embeddings["gallery_embeddings"][:7],
        "gallery_image_ids": np.arange(7),
    }
    curve = Enrolment(part, class_ids, SEEN).curve((1,), 2, 0, bootstrap_draws=200)
    everything = curve[curve["images_per_class"] == "all"].iloc[0]
    assert everything["unseen_accuracy"] == pytest.approx(2 / 3)


def test_rejection_on_paper():
    """Would catch known and unknown swapped, a rate at the wrong threshold, or > instead of ≥."""
    known = np.array([0.9, 0.8, 0.7, 0.6])
    unknown = np.array([0.75, 0.5])
    metrics, curve = reject(known, unknown)
    # Pairs in the right order: 0.75 is below two of four, 0.5 below all: 6 of 8.
    assert metrics["auroc"] == 6 / 8
    # Accepting 95 % of four known queries means all of them: at 0.6, which 0.75 passes.
    assert metrics["threshold_at_95_tpr"] == 0.6
    assert metrics["false_positive_rate_at_95_tpr"] == 1 / 2
    assert (metrics["known_queries"], metrics["unknown_queries"]) == (4, 2)
    expected = [
        (0.9, 0.25, 0.0),
        (0.8, 0.5, 0.0),
        (0.75, 0.5, 0.5),
        (0.7, 0.75, 0.5),
        (0.6, 1.0, 0.5),
        (0.5, 1.0, 1.0),
    ]
    assert [tuple(row) for row in curve.to_numpy()] == expected


def test_ties_count_half():
    """Would catch an area that depends on the order of equal similarities."""
    assert reject(np.array([0.5, 0.5]), np.array([0.5]))[0]["auroc"] == 0.5


def test_auroc_equals_scikit_learn_and_its_interval_a_plain_bootstrap():
    """Would catch a first-order interval that is much narrower or wider than resampling itself."""
    rng = np.random.default_rng(4)
    classes = [np.repeat(np.arange(n), 12) for n in (30, 15)]
    effects = [rng.standard_normal(n) * 0.5 for n in (30, 15)]
    known, unknown = (
        np.round(mean + effect[which] + rng.standard_normal(len(which)), 1)
        for mean, effect, which in zip((1.0, 0.0), effects, classes, strict=True)
    )
    metrics, _ = reject(
        known, unknown, known_classes=classes[0], unknown_classes=classes[1], draws=4000
    )
    labels = np.repeat([1, 0], [len(known), len(unknown)])
    area = roc_auc_score(labels, np.concatenate([known, unknown]))
    assert metrics["auroc"] == pytest.approx(area, abs=1e-12)
    plain = []
    for _ in range(500):
        sides = []
        for scores, which in zip((known, unknown), classes, strict=True):
            drawn = rng.integers(0, which.max() + 1, which.max() + 1)
            sides.append(
                np.concatenate([rng.choice(scores[which == c], 12, replace=True) for c in drawn])
            )
        higher = sides[0][:, None] - sides[1]
        plain.append(((higher > 0) + (higher == 0) / 2).mean())
    low, high = np.percentile(plain, [2.5, 97.5])
    assert metrics["auroc_low"] == pytest.approx(low, abs=0.02)
    assert metrics["auroc_high"] == pytest.approx(high, abs=0.02)


def test_nothing_to_reject():
    """Would catch an error if all queries are known."""
    metrics, curve = reject(np.array([0.5]), np.array([]))
    assert np.isnan(metrics["auroc"])
    assert curve.empty
    assert isinstance(curve, pd.DataFrame)


def test_scores_that_are_resampled_together_have_their_own_intervals():
    """Would catch intervals in the order of other scores, and a score that changes those of others."""
    rng = np.random.default_rng(0)
    classes = {"known_classes": np.arange(60) % 6, "unknown_classes": np.arange(40) % 4}
    scores = [(rng.normal(shift, 1, 60), rng.normal(0, 1, 40)) for shift in (0, 0.5, 2)]
    together = reject_by(scores, **classes, draws=300, seed=1)
    for (metrics, curve), (known, unknown) in zip(together, scores, strict=True):
        alone, own = reject(known, unknown, **classes, draws=300, seed=1)
        assert metrics == pytest.approx(alone, abs=1e-12)
        assert curve.equals(own)
        assert metrics["auroc"] == pytest.approx(
            roc_auc_score([1] * 60 + [0] * 40, np.concatenate([known, unknown]))
        )
        assert metrics["auroc_low"] < metrics["auroc"] < metrics["auroc_high"]
