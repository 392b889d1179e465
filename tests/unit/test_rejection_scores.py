"""Scores for rejection, their figures, thresholds that keep their rate, and calibrated probabilities."""

import numpy as np
import pandas as pd
import pytest
from helpers import unit
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, roc_auc_score, roc_curve

from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import Dataset
from dmlstudy.evaluate import selective
from dmlstudy.evaluate.calibration import calibrate, expected_calibration_error
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.rejection import reject
from dmlstudy.evaluate.rejection_scores import score_experiment
from dmlstudy.evaluate.scores import pieces
from dmlstudy.evaluate.scores.case import Case, Enrolled
from dmlstudy.evaluate.scores.energy import TEMPERATURE
from dmlstudy.evaluate.scores.pieces import SCORES, score_images
from dmlstudy.evaluate.thresholds import judged_halves, reached_by, similarities_to_others
from dmlstudy.use.index_choices import Choice, Images, choose, in_words


def small_case(own=False, seed=0, dim=7):
    """A case of 60 gallery images of 5 classes with gaps in the class ids."""
    rng = np.random.default_rng(seed)
    gallery = unit(rng, 60, dim)
    classes = rng.permutation(np.repeat([2, 3, 5, 8, 13], 12))
    if own:
        rows = rng.permutation(60)[:25]
        return Case(gallery[rows], Enrolled(gallery, classes), own=rows)
    return Case(unit(rng, 25, dim), Enrolled(gallery, classes))


def slow_similarities(case):
    """{class: similarity to its nearest image} of each image, one product at a time."""
    found = []
    for position, image in enumerate(case.images.astype(float)):
        best = dict.fromkeys(case.enrolled.classes.tolist(), -1.0)
        for row, other in enumerate(case.enrolled.vectors.astype(float)):
            if case.own is None or case.own[position] != row:
                name = int(case.enrolled.class_ids[row])
                best[name] = max(best[name], float(image @ other))
        found.append(best)
    return found


@pytest.mark.parametrize("own", [False, True])
def test_scores_by_similarity_equal_loops(own):
    """Would catch classes that are mixed up, an image that finds itself, or a wrong sign or temperature."""
    case = small_case(own)
    rows = [sorted(one.values(), reverse=True) for one in slow_similarities(case)]
    np.testing.assert_allclose(SCORES["similarity"](case), [one[0] for one in rows], atol=1e-12)
    np.testing.assert_allclose(SCORES["margin"](case), [a - b for a, b, *_ in rows], atol=1e-12)
    energy = [TEMPERATURE * logsumexp(np.array(one) / TEMPERATURE) for one in rows]
    np.testing.assert_allclose(SCORES["energy"](case), energy, atol=1e-12)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dim", [7, 90])
def test_mahalanobis_equals_scipy_with_scikit_learns_covariance(own, dim):
    """Would catch a covariance of all images, a missing square, or a mean with the image that is left out.

    90 dimensions are more than there are images.
    """
    case = small_case(own, dim=dim)
    gallery = case.enrolled.vectors.astype(float)
    means = {c: gallery[case.enrolled.class_ids == c].mean(axis=0) for c in case.enrolled.classes}
    deviations = gallery - np.array([means[c] for c in case.enrolled.class_ids])
    inverse = np.linalg.inv(ledoit_wolf(deviations, assume_centered=True)[0])
    expected = []
    for position, image in enumerate(case.images.astype(float)):
        distances = []
        for name in case.enrolled.classes:
            rows = case.enrolled.class_ids == name
            if own:
                rows = rows & (np.arange(len(gallery)) != case.own[position])
            distances.append(mahalanobis(image, gallery[rows].mean(axis=0), inverse) ** 2)
        expected.append(-min(distances))
    np.testing.assert_allclose(SCORES["mahalanobis"](case), expected, rtol=1e-8)


def test_scores_without_much_to_score():
    """Would catch a division by zero for one class, one image per class, or an image alone in its class."""
    rng = np.random.default_rng(1)
    gallery = unit(rng, 4, 5)
    one_class = Case(unit(rng, 3, 5), Enrolled(gallery, np.zeros(4, dtype=int)))
    single_images = Case(unit(rng, 3, 5), Enrolled(gallery, np.arange(4)))
    alone = Case(gallery, Enrolled(gallery, np.array([0, 0, 0, 1])), own=np.arange(4))
    for case in (one_class, single_images, alone):
        for score in SCORES.values():
            assert np.isfinite(score(case)).all()
    nearest = SCORES["similarity"](one_class)
    np.testing.assert_allclose(SCORES["margin"](one_class), nearest + 1)
    # Without variance within classes, the distances are Euclidean.
    squares = 2 - 2 * SCORES["similarity"](single_images)
    np.testing.assert_allclose(SCORES["mahalanobis"](single_images), -squares, atol=1e-6)
    with pytest.raises(ValueError, match="empty"):
        Enrolled(gallery[:0], np.arange(0))
    lonely = Case(gallery[:1], Enrolled(gallery[:1], np.arange(1)), own=np.arange(1))
    with pytest.raises(ValueError, match="no other image"):
        SCORES["mahalanobis"](lonely)


@pytest.mark.parametrize("own", [False, True])
def test_some_images_at_a_time_equal_all_at_once(own, monkeypatch):
    """Would catch rows to be left out that do not move with the images, or a part that is lost."""
    case = small_case(own)
    monkeypatch.setattr(pieces, "PAIRS", 60 * 4)
    found, nearest = score_images(case.images, case.enrolled, case.own)
    for name, score in SCORES.items():
        np.testing.assert_allclose(found[name], score(case), rtol=1e-10)
    assert nearest.tolist() == case.nearest_classes.tolist()
    none, nothing = score_images(case.images[:0], case.enrolled)
    assert [len(one) for one in (*none.values(), nothing)] == [0] * 5


def drawn_scores(seed, ties):
    rng = np.random.default_rng(seed)
    known, unknown = rng.normal(1, 1, 80), rng.normal(0, 1, 50)
    if ties:
        known, unknown = known.round(), unknown.round()
    return known, rng.random(80) < 0.3 + 0.2 * (known > 1), unknown


def slow_oscr(known, correct, unknown):
    """Area by a threshold at a time and trapezoids."""
    thresholds = sorted({*known, *unknown, np.inf}, reverse=True)
    rates = [((unknown >= t).mean(), ((known >= t) & correct).mean()) for t in thresholds]
    return auc(*zip(*rates, strict=True))


def slow_risk_coverage(scores, correct):
    """Mean over queries of the share of errors among those that score as much or more."""
    return float(np.mean([1 - correct[scores >= one].mean() for one in scores]))


@pytest.mark.parametrize("ties", [False, True])
def test_areas_equal_slow_loops(ties):
    """Would catch ties that count as accepted, wrong answers that count, or an area over the wrong axis."""
    for seed in range(5):
        known, correct, unknown = drawn_scores(seed, ties)
        area, of_known, of_unknown = selective.oscr(known, correct, unknown)
        assert area == pytest.approx(slow_oscr(known, correct, unknown))
        assert of_known.mean() == pytest.approx(area)
        assert of_unknown.mean() == pytest.approx(area)
        # If all answers are right, it is the AUROC.
        labels = np.repeat([1, 0], [80, 50])
        everything = selective.oscr(known, np.ones(80), unknown)[0]
        assert everything == pytest.approx(roc_auc_score(labels, np.r_[known, unknown]))
        found = selective.risk_coverage(known, correct)
        assert found == pytest.approx(slow_risk_coverage(known, correct))


@pytest.mark.parametrize("ties", [False, True])
def test_intervals_equal_figures_of_written_out_resamples(ties):
    """Would catch counts in the wrong order, or a rate that is read off beside its threshold."""
    known, correct, unknown = drawn_scores(3, ties)
    rng = np.random.default_rng(3)
    classes = rng.integers(0, 9, 80), rng.integers(0, 4, 50)
    found = selective.resampled_intervals(
        {"one": (known, unknown)}, correct, *classes, draws=60, seed=5
    )["one"]
    # The bootstrap itself gives the counts: they are its means of the rows of an identity matrix.
    counts = [
        np.rint(bootstrap(np.eye(len(one)), classes=one, draws=60, seed=[5, side]) * 10_000)
        for side, one in enumerate(classes)
    ]
    rates, areas = [], []
    for of_known, of_unknown in zip(*counts, strict=True):
        labels = np.repeat([1, 0], [80, 50])
        false, true, _ = roc_curve(
            labels,
            np.r_[known, unknown],
            sample_weight=np.r_[of_known / of_known.sum(), of_unknown / of_unknown.sum()],
            drop_intermediate=False,
        )
        rates.append(false[np.argmax(true >= 0.95 - 1e-9)])
        risks = [
            np.average(~correct[known >= one], weights=of_known[known >= one] + 1e-12)
            for one in known
        ]
        areas.append(np.average(risks, weights=of_known))
    assert found["false_positive_rate_at_95_tpr"] == pytest.approx(
        percentile_interval(np.array(rates)), abs=2e-3
    )
    assert found["risk_coverage_area"] == pytest.approx(
        percentile_interval(np.array(areas)), abs=2e-3
    )


def test_calibration_equals_scikit_learn_and_grows_with_the_score():
    """Would catch a slope on another scale than the scores, or a probability that falls."""
    rng = np.random.default_rng(0)
    scores = rng.random(4000) * 0.2
    correct = rng.random(4000) < 1 / (1 + np.exp(-(40 * scores - 4)))
    found = calibrate(scores, correct)
    plain = LogisticRegression(C=1e9, tol=1e-8).fit(100 * scores[:, None], correct)
    values = np.linspace(0, 0.2, 50)
    np.testing.assert_allclose(
        found(values), plain.predict_proba(100 * values[:, None])[:, 1], atol=2e-3
    )
    assert (np.diff(found(values)) > 0).all()
    assert expected_calibration_error(found(scores), correct) < 0.03
    for odd in (np.ones(4000), np.zeros(4000), ~correct):
        assert calibrate(scores, odd) is None
    assert calibrate(np.ones(4000), correct) is None


def test_calibration_error_equals_a_loop():
    """Would catch bins that leave out 0 or 1, or that count alike however many answers they hold."""
    rng = np.random.default_rng(0)
    probabilities = np.r_[rng.random(300), 0.0, 1.0, 1 / 15]
    correct = rng.random(303) < probabilities**2
    total = 0.0
    for index in range(15):
        low, high = index / 15, (index + 1) / 15
        inside = (probabilities > low) & (probabilities <= high)
        if index == 0:
            inside |= probabilities == 0
        if inside.any():
            gap = abs(probabilities[inside].mean() - correct[inside].mean())
            total += gap * inside.mean()
    assert expected_calibration_error(probabilities, correct) == pytest.approx(total)
    assert np.isnan(expected_calibration_error([], []))


class Planted:
    """Embeddings of a model that has learnt its training images by heart.

    Images of a class lie around a direction. Training images of the classes that the model was trained on lie
    close to it, all other images far from it.
    """

    def __init__(self, seed, trained, classes=40, images=40, dim=48):
        rng = np.random.default_rng(seed)
        directions = unit(rng, classes, dim)
        class_ids = np.repeat(np.arange(classes), images)
        train = np.tile(np.arange(images) < images * 3 // 4, classes)
        spread = np.where(trained[class_ids] & train, 0.03, 0.11)
        spread = spread * rng.uniform(0.5, 1.5, len(spread))
        vectors = directions[class_ids] + spread[:, None] * rng.standard_normal((len(spread), dim))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        ids = np.arange(len(class_ids))
        self.class_ids = class_ids
        self.embeddings = {
            "gallery_embeddings": vectors[train],
            "gallery_image_ids": ids[train],
            "query_embeddings": vectors[~train],
            "query_image_ids": ids[~train],
        }

    def images(self, held_out):
        class_ids = self.class_ids[self.embeddings["gallery_image_ids"]]
        return Images(self.embeddings["gallery_embeddings"], class_ids, held_out[class_ids])

    def accepted(self, threshold, chosen):
        """Share of the queries of some classes that a threshold accepts."""
        queries = self.embeddings["query_embeddings"]
        rows = chosen[self.class_ids[self.embeddings["query_image_ids"]]]
        nearest = (queries[rows] @ self.embeddings["gallery_embeddings"].T).max(axis=1)
        return float(np.mean(nearest >= threshold))


SEEN = np.arange(40) < 30


@pytest.mark.parametrize("share", [0.9, 0.95])
def test_threshold_of_held_out_classes_keeps_its_rate_where_the_old_one_does_not(share):
    """Would catch a threshold that is chosen on images that the model was fitted to.

    The rate is that of new photographs of classes that nobody trained on, over several draws.
    """
    old, new, limits = [], [], []
    for seed in range(8):
        limited = Planted(seed, SEEN)
        whole = np.ones(1200, dtype=bool)
        for way, rates in (("own_images", old), ("held_out_classes", new)):
            threshold, _ = choose(limited.images(~SEEN), whole, Choice(share, way))
            rates.append(limited.accepted(threshold["similarity"], ~SEEN))
        assert threshold["images"] == 300
        complete = Planted(seed, np.ones(40, dtype=bool))
        choice = Choice(share, "held_out_classes", [limited.images(~SEEN)])
        threshold, _ = choose(complete.images(np.zeros(40, dtype=bool)), whole, choice)
        limits.append(complete.accepted(threshold["similarity"], np.ones(40, dtype=bool)))
        assert "limited models of its recipe" in in_words(threshold, None)
    assert np.mean(old) < share - 0.1
    assert np.mean(new) == pytest.approx(share, abs=0.02)
    # A model without such a class takes the threshold of the limited one.
    # It has learnt all its training images by heart, so no place among these would do.
    # Its new photographs have closer neighbours: it accepts at least the share.
    assert share - 0.02 < np.mean(limits) < share + 0.05


def test_model_of_all_classes_without_a_limited_one_is_refused():
    """Would catch a silent fallback to images that the model was trained on."""
    complete = Planted(0, np.ones(40, dtype=bool))
    images = complete.images(np.zeros(40, dtype=bool))
    with pytest.raises(StudyError, match="own_images"):
        choose(images, np.ones(1200, dtype=bool), Choice(0.95, "held_out_classes"))


def test_halves_judge_all_classes_in_turn():
    """Would catch the same half in each draw, or a class that is never judged."""
    halves = [set(half.tolist()) for half in judged_halves(np.array([3, 5, 8]), 20, 42)]
    assert {len(half) for half in halves} == {2}
    assert set().union(*halves) == {3, 5, 8}
    assert len({tuple(sorted(half)) for half in halves}) == 3
    assert [half.tolist() for half in judged_halves([7], 2, 42)] == [[7], [7]]


def dataset_of(planted, class_set, seen):
    """A `Dataset` of planted images."""
    manifest = pd.DataFrame({"image_id": range(len(planted.class_ids))})
    manifest["path"] = "x.jpg"
    manifest["class_id"] = planted.class_ids
    manifest["class_name"] = [f"class {c}" for c in planted.class_ids]
    split = pd.DataFrame({"image_id": range(len(manifest)), "part": "train"})
    split.loc[planted.embeddings["query_image_ids"], "part"] = "test"
    sets = pd.DataFrame({"class_set": class_set, "class_id": range(40), "seen": seen.astype(int)})
    sets["label"] = np.where(seen, np.cumsum(seen) - 1, -1)
    return Dataset(manifest, split, sets)


def test_tables_of_an_experiment():
    """Would catch rows of the wrong model, figures that differ from rejection.csv, or a judge who chose."""
    full = np.ones(40, dtype=bool)
    models = {"all_classes": Planted(1, full), "limited_classes": Planted(2, SEEN)}
    sets = [
        dataset_of(models[name], name, seen)
        for name, seen in (("all_classes", full), ("limited_classes", SEEN))
    ]
    scores, thresholds = score_experiment(
        sets,
        [42],
        lambda seed, name: models[name].embeddings,
        untrained=False,
        draws=200,
        seed=42,
        threads=1,
    )
    assert len(scores) == 2 * len(SCORES)
    own = scores[scores["model"] == "limited_classes"].set_index("score")
    planted = models["limited_classes"]
    queries = planted.embeddings["query_embeddings"].astype(float)
    classes = planted.class_ids[planted.embeddings["query_image_ids"]]
    gallery_classes = planted.class_ids[planted.embeddings["gallery_image_ids"]]
    gallery = planted.embeddings["gallery_embeddings"][SEEN[gallery_classes]].astype(float)
    found = queries @ gallery.T
    nearest, known = found.max(axis=1), SEEN[classes]
    right = gallery_classes[SEEN[gallery_classes]][found.argmax(axis=1)] == classes
    metrics, _ = reject(
        nearest[known],
        nearest[~known],
        known_classes=classes[known],
        unknown_classes=classes[~known],
        draws=200,
        seed=42,
    )
    for key in ("auroc", "auroc_low", "auroc_high", "false_positive_rate_at_95_tpr"):
        assert own.loc["similarity", key] == pytest.approx(metrics[key], abs=1e-9)
    assert own.loc["similarity", "oscr_area"] == pytest.approx(
        slow_oscr(nearest[known], right[known], nearest[~known])
    )
    assert own.loc["similarity", "risk_coverage_area"] == pytest.approx(
        slow_risk_coverage(nearest[known], right[known])
    )
    for name in ("false_positive_rate_at_95_tpr", "oscr_area", "risk_coverage_area", "auroc"):
        assert (own[f"{name}_low"] <= own[name] + 1e-9).all()
        assert (own[name] <= own[f"{name}_high"] + 1e-9).all()
    assert set(own["calibrated_on"]) == {"held_out_classes"}
    others = scores[scores["model"] == "all_classes"]
    assert set(others["calibrated_on"]) == {"own_images"}
    rows = thresholds.set_index(["model", "way", "accepted_share"])
    new = rows.loc[("limited_classes", "held_out_classes", 0.95)]
    assert new["threshold"] == pytest.approx(
        reached_by(
            similarities_to_others(planted.embeddings["gallery_embeddings"])[
                ~SEEN[gallery_classes]
            ],
            0.95,
        )
    )
    assert new["accepted_unseen_classes"] == pytest.approx(
        planted.accepted(new["threshold"], ~SEEN)
    )
    assert (new["images"], new["classes"]) == (300, 10)
    assert new["accepted_other_unseen_classes"] == pytest.approx(0.95, abs=0.03)
    old = rows.loc[("limited_classes", "own_images", 0.95)]
    assert old["accepted_unseen_classes"] < 0.85


def test_untrained_model_chooses_on_all_classes_but_those_that_judge():
    """Would catch an untrained row that is treated as fitted, or halves that judge what they chose."""
    planted = Planted(4, np.zeros(40, dtype=bool))
    full = np.ones(40, dtype=bool)
    sets = [
        dataset_of(planted, name, seen)
        for name, seen in (("all_classes", full), ("limited_classes", SEEN))
    ]
    scores, thresholds = score_experiment(
        sets,
        [42],
        lambda seed, name: planted.embeddings,
        untrained=True,
        draws=50,
        seed=42,
        threads=1,
    )
    assert set(scores["calibration_images"]) == {1200}
    keys = ["way", "accepted_share", "threshold", "accepted_unseen_classes"]
    both = [rows[keys].reset_index(drop=True) for _, rows in thresholds.groupby("model")]
    pd.testing.assert_frame_equal(*both)
    pools = thresholds.groupby("way")["threshold"].apply(list)
    assert pools["held_out_classes"] == pools["own_images"]


def test_scores_keep_no_similarities():
    """Would catch a score that is a view: then the similarities of all images to all classes stay in memory."""
    rng = np.random.default_rng(0)
    gallery = Enrolled(unit(rng, 40, 8), np.arange(40) % 10)
    case = Case(unit(rng, 5, 8), gallery)
    for name, score in SCORES.items():
        assert score(case).base is None, name
    assert all(one.base is None for one in case.two_nearest)
