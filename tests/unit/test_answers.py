"""Ways of answering: each equals scikit-learn or a slow computation, and adding equals fitting at once."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import unit
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge
from sklearn.neighbors import NearestCentroid

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.answers import answer, imprinted_classifier, lda
from dmlstudy.evaluate.answers.answer import held_out
from dmlstudy.evaluate.answers.random_projection_ridge import SHARES
from dmlstudy.train.run import class_weight_arrays

WAYS = {
    "nearest": {},
    "weighted_neighbours": {"k": 7},
    "class_mean": {},
    "centred_class_mean": {},
    "calibrated_class_mean": {},
    "imprinted_classifier": {},
    "lda": {"shrinkage": 0.2},
    "lda ": {},
    "random_projection_ridge": {"width": 40, "ridge": 3.0},
    "random_projection_ridge ": {"width": 40},
}
each_way = pytest.mark.parametrize("name", WAYS)


RNG = np.random.default_rng


def way(name, dim=12, **changes):
    one = registry.load("answer", name.strip())(**{**WAYS.get(name, {}), **changes})
    # Weights of two base classes; the others have none, as if they were new.
    return (
        one.with_weights({0: unit(RNG(3), 1, dim)[0], 2: unit(RNG(4), 1, dim)[0]})
        if one.needs_weights
        else one
    )


def draw(seed=0, dim=12, classes=6, images=15, queries=50):
    """Features around a centre per class: (features, class ids, queries, base classes)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, dim)) + 0.5
    class_ids = rng.permutation(np.arange(classes * images) % classes)
    features = centres[class_ids] + 1.2 * rng.standard_normal((len(class_ids), dim))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), class_ids, unit(rng, queries, dim), np.arange(classes - 2)


def test_each_kind_is_tested():
    """Would catch a way of answering that nobody compares with anything."""
    assert {name.strip() for name in WAYS} == set(registry.kinds("answer"))


# Against other computations.


def test_nearest_is_the_nearest_image():
    """Would catch another tie rule, rounding that decides between images, and a score of another class."""
    features, class_ids, queries, _ = draw()
    # Exact copies in two classes: the smaller image id decides, whatever the order.
    features[1], class_ids[0], class_ids[1] = features[0], 4, 2
    queries[0] = features[0]
    ids = np.random.default_rng(1).permutation(len(features))
    ids[[0, 1]] = ids[[0, 1]][np.argsort(ids[[0, 1]])]
    one = way("nearest").fit(features, class_ids, image_ids=ids)
    answers, scores = one.answers(queries)
    similarities = queries.astype(float) @ features.T.astype(float)
    rounded = np.round(similarities, 9)
    rows = np.lexsort((np.broadcast_to(ids, rounded.shape), -rounded), axis=1)[:, 0]
    assert (answers == class_ids[rows]).all()
    assert answers[0] == 4
    np.testing.assert_allclose(scores, similarities.max(axis=1), atol=1e-9)
    by_class = [similarities[:, class_ids == one].max(axis=1) for one in np.unique(class_ids)]
    np.testing.assert_allclose(one.scores(queries), np.transpose(by_class), atol=2e-6)


@pytest.mark.parametrize("k", [1, 5, 200])
def test_weighted_neighbours_are_dinos(k):
    """Would catch votes without weights, a wrong temperature, and a k above the number of images."""
    features, class_ids, queries, _ = draw()
    found = (
        way("weighted_neighbours", k=k, temperature=0.1).fit(features, class_ids).scores(queries)
    )
    similarities = queries.astype(float) @ features.T.astype(float)
    expected = np.zeros_like(found)
    for row, one in enumerate(similarities):
        for column in np.argsort(-one)[:k]:
            expected[row, class_ids[column]] += np.exp((one[column] - 1) / 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weighted_neighbours_break_ties_by_id():
    """Would catch a vote that depends on the order in which equal images come."""
    features = np.zeros((6, 3), dtype=np.float32)
    features[:, 0] = 1
    class_ids = np.array([0, 1, 2, 0, 1, 2])
    one = way("weighted_neighbours", k=2)
    scores = one.fit(features, class_ids, image_ids=[9, 8, 1, 7, 6, 2]).scores(features[:1])
    np.testing.assert_allclose(scores, [[0, 0, 2]])


def test_class_mean_by_hand():
    """Would catch a mean that is not normalised."""
    features, class_ids, queries, _ = draw()
    means = np.array([features[class_ids == one].mean(axis=0) for one in range(6)], dtype=float)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = way("class_mean").fit(features, class_ids).scores(queries)
    np.testing.assert_allclose(found, queries @ means.T, atol=1e-6)


def test_centred_class_mean_is_nearest_centroid_of_centred_features():
    """Would catch a centre that takes in unseen classes, and features that are not normalised again."""
    features, class_ids, queries, base = draw()
    centre = features[np.isin(class_ids, base)].mean(axis=0, dtype=float)

    def centred(values):
        values = values - centre
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    oracle = NearestCentroid().fit(centred(features), class_ids)
    one = way("centred_class_mean").fit(features, class_ids, base=base)
    assert (one.answers(queries)[0] == oracle.predict(centred(queries))).all()
    expected = -(np.square(centred(queries)[:, None] - oracle.centroids_).sum(axis=2))
    np.testing.assert_allclose(one.scores(queries), expected, atol=1e-6)


def test_calibrated_class_mean_by_hand():
    """Would catch base prototypes that move, and weights over new classes."""
    features, class_ids, queries, base = draw()
    means = np.array([features[class_ids == one].mean(axis=0) for one in range(6)], dtype=float)
    length = np.linalg.norm(means, axis=1)
    for new in (4, 5):
        cosines = [means[new] @ means[one] / length[new] / length[one] for one in base]
        weights = softmax(10 * np.array(cosines))
        calibrated = 0.3 * means[new] + 0.7 * sum(
            w * means[b] for w, b in zip(weights, base, strict=True)
        )
        means[new] = calibrated
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    one = way("calibrated_class_mean", alpha=0.3, scale=10.0).fit(features, class_ids, base=base)
    np.testing.assert_allclose(one.scores(queries), queries @ means.T, atol=1e-6)


def test_imprinting_by_hand():
    """Would catch trained weights that are replaced or not normalised, and weights of another order."""
    features, class_ids, queries, base = draw()
    vectors = np.random.default_rng(5).standard_normal((4, 12))
    labels = [3, 1, 0, 2]
    weights = dict(zip(labels, vectors, strict=True))
    one = imprinted_classifier.build().with_weights(weights).fit(features, class_ids, base=base)
    expected = np.empty((6, 12))
    expected[labels] = vectors
    for new in (4, 5):
        expected[new] = features[class_ids == new].mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(one.scores(queries), queries @ expected.T, atol=1e-6)
    with pytest.raises(StudyError, match="needs its class weights"):
        imprinted_classifier.build().fit(features, class_ids)
    with pytest.raises(StudyError, match="class weights of 3 dimensions do not fit features of 12"):
        imprinted_classifier.build().with_weights({0: np.ones(3)}).fit(features, class_ids)


WITH_VECTORS = ["crossentropy", "arcface", "normalized_softmax", "proxy_nca", "proxy_anchor"]


@pytest.mark.parametrize("kind", WITH_VECTORS)
def test_class_weights_are_those_of_the_loss(kind):
    """Would catch a loss whose weights are not stored, or have the axis of the classes elsewhere."""
    loss = registry.load("loss", kind)(num_classes=5, embedding_dim=3)
    found = class_weight_arrays(loss, np.array([4, 5, 6, 8, 9]), *[torch.ones(2, 3)] * 2)
    assert found["classifier_class_ids"].tolist() == [4, 5, 6, 8, 9]
    vectors = next(value for value in loss.parameters() if value.ndim == 2).detach().numpy()
    vectors = vectors if vectors.shape == (5, 3) else vectors.T
    stored = found["classifier_weights"]
    if kind == "normalized_softmax":
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(stored, vectors, rtol=1e-6)


@pytest.mark.parametrize("kind", sorted(set(registry.kinds("loss")) - set(WITH_VECTORS)))
def test_losses_without_a_vector_per_class_store_none(kind):
    """Would catch a loss with several vectors per class, or none, that is imprinted all the same."""
    loss = registry.load("loss", kind)(num_classes=5, embedding_dim=3)
    assert not hasattr(loss, "class_weights")


@pytest.mark.parametrize("dim", [12, 300])
@pytest.mark.parametrize("shrinkage", [0.001, 0.3, 1.0])
def test_lda_is_scikit_learns(dim, shrinkage):
    """Would catch another covariance, prior or constant; with more dimensions than photographs, too."""
    features, class_ids, queries, _ = draw(dim=dim, images=9)
    # Classes of different sizes.
    features, class_ids = features[class_ids.argsort()][3:], np.sort(class_ids)[3:]
    oracle = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)
    oracle.fit(features.astype(float), class_ids)
    expected = oracle.decision_function(queries.astype(float))
    for priors in ("frequency", "equal"):
        found = (
            way("lda", shrinkage=shrinkage, priors=priors).fit(features, class_ids).scores(queries)
        )
        wanted = expected - (np.log(oracle.priors_) if priors == "equal" else 0)
        # What all classes of a query share, a constant of the background, changes no answer.
        np.testing.assert_allclose(
            found - found.mean(axis=1, keepdims=True),
            wanted - wanted.mean(axis=1, keepdims=True),
            rtol=1e-6,
            atol=1e-6,
        )


def test_lda_without_variation_is_the_nearest_mean():
    """Would catch a division by nothing if every class has one photograph."""
    features, _, queries, _ = draw(classes=5, images=1)
    one = way("lda", shrinkage=None).fit(features, np.arange(5))
    assert (
        one.answers(queries)[0] == way("nearest").fit(features, np.arange(5)).answers(queries)[0]
    ).all()


@pytest.mark.parametrize("dim", [12, 300])
def test_ridge_is_scikit_learns(dim):
    """Would catch an intercept, and a ridge or projection that is not the one stated."""
    features, class_ids, queries, base = draw(dim=dim)
    one = way("random_projection_ridge", width=60).fit(features, class_ids, base=base)
    oracle = Ridge(alpha=one.chosen["ridge"], fit_intercept=False)
    oracle.fit(one.projected(features).astype(float), np.eye(6)[class_ids])
    expected = oracle.predict(one.projected(queries).astype(float))
    np.testing.assert_allclose(one.scores(queries), expected, atol=1e-6)
    assert (one.projected(features) >= 0).all()


@pytest.mark.parametrize("width", [30, 100])
def test_ridge_is_the_one_that_names_most_of_those_held_out(width):
    """Would catch a ridge chosen on other photographs, or by another sum where a width is above their number."""
    chosen = []
    for seed in range(4):
        features, class_ids, _, base = draw(seed, dim=30)
        one = way("random_projection_ridge ", width=width).fit(features, class_ids, base=base)
        own = np.isin(class_ids, base)
        held = np.zeros(len(own), dtype=bool)
        held[own] = held_out(class_ids[own])
        projected, trained = one.projected(features).astype(float), own & ~held
        assert (projected.shape[1] < trained.sum()) == (width == 30)
        scale = (projected[trained] ** 2).sum() / projected.shape[1]
        hits = []
        for share in SHARES:
            oracle = Ridge(alpha=share * scale, fit_intercept=False)
            oracle.fit(projected[trained], np.eye(len(base))[class_ids[trained]])
            named = oracle.predict(projected[held]).argmax(axis=1)
            hits.append(((named == class_ids[held]).sum(), share))
        assert one.chosen["ridge"] == float(f"{max(hits)[1] * scale:.3g}")
        chosen.append(max(hits)[1])
    assert len(set(chosen)) > 1


# What all have in common.


@pytest.mark.parametrize("dim", [12, 200])
@each_way
def test_adding_equals_fitting_at_once(name, dim):
    """Would catch a statistic that misses what was added, or that depends on the order."""
    features, class_ids, queries, base = draw(dim=dim)
    own = np.isin(class_ids, base)
    # Half of an unseen class, then one of the other, then the rest of both, and then a base class.
    later = np.flatnonzero(own)[:5]
    own[later] = False
    first, second = (np.flatnonzero(class_ids == one) for one in (4, 5))
    ids = np.arange(len(features))
    # What is chosen depends on the base photographs of the start; so it is given.
    start = way(name, dim).fit(features[own], class_ids[own], base=base, image_ids=ids[own])
    prepared = start.prepare(queries)
    one = copy.copy(start)
    for rows in (first[:7], second[:1], first[7:], second[1:], later):
        one.add(features[rows], class_ids[rows], image_ids=ids[rows])
    given = {key: value for key, value in start.chosen.items() if key in ("ridge", "shrinkage")}
    whole = way(name, dim, **given).fit(features, class_ids, base=base)
    np.testing.assert_allclose(one.scores(queries), whole.scores(queries), atol=1e-6)
    np.testing.assert_allclose(one.scores(prepared), whole.scores(queries), atol=1e-6)
    assert one.classes.tolist() == list(range(6))
    # The copy that was added to is another one.
    assert start.classes.tolist() == base.tolist()
    assert start.scores(prepared).shape == (len(queries), len(base))


@each_way
def test_what_is_chosen_depends_on_base_classes_alone(name):
    """Would catch an unseen class that decides a parameter."""
    features, class_ids, _, base = draw()
    own = np.isin(class_ids, base)
    alone = way(name).fit(features[own], class_ids[own], base=base)
    together = way(name).fit(features, class_ids, base=base)
    assert alone.chosen == together.chosen


@each_way
def test_removing_a_class_equals_never_having_it(name):
    """Would catch what a removed class leaves behind, also in queries that were prepared before."""
    features, class_ids, queries, base = draw()
    one = way(name).fit(features, class_ids, base=base)
    prepared = one.prepare(queries)
    one.remove(5)
    left = class_ids != 5
    never = way(name).fit(features[left], class_ids[left], base=base)
    assert one.classes.tolist() == never.classes.tolist()
    np.testing.assert_allclose(one.scores(queries), never.scores(queries), atol=1e-6)
    np.testing.assert_allclose(one.scores(prepared), never.scores(queries), atol=1e-6)
    with pytest.raises(StudyError, match="class 5 cannot be removed: it has no photograph"):
        one.remove(5)
    # A removed class can come back.
    one.add(features[~left], class_ids[~left], image_ids=1000 + np.flatnonzero(~left))
    assert 5 in one.classes


@each_way
def test_what_is_kept_stands_for_the_photographs(name):
    """Would catch arrays that lack what was added since, or a choice that is made again."""
    features, class_ids, queries, base = draw()
    own = np.isin(class_ids, base)
    start = way(name).fit(features[own], class_ids[own], base=base)
    one = copy.copy(start).add(features[class_ids == 4], class_ids[class_ids == 4])
    again = way(name).fit(
        one.features, one.class_ids, base=base, chosen=one.chosen, kept=one.keep()
    )
    assert again.chosen == start.chosen
    np.testing.assert_allclose(again.scores(queries), one.scores(queries), atol=1e-6)
    rest = features[class_ids == 5], class_ids[class_ids == 5]
    np.testing.assert_allclose(
        again.add(*rest).scores(queries), one.add(*rest).scores(queries), atol=1e-6
    )
    # A way that is fitted again as before forgets what was chosen.
    assert again.fit(features[own], class_ids[own], base=base).chosen == start.chosen


@each_way
def test_prepared_queries_of_another_branch_are_prepared_again(name):
    """Would catch scores of photographs that a copy does not have."""
    features, class_ids, queries, base = draw()
    own = np.isin(class_ids, base)
    start = way(name).fit(features[own], class_ids[own], base=base)
    first, second = (
        copy.copy(start).add(features[class_ids == new], class_ids[class_ids == new])
        for new in (4, 5)
    )
    prepared = first.prepare(queries)
    np.testing.assert_allclose(second.scores(prepared), second.scores(queries), atol=1e-6)


@each_way
def test_answers_some_queries_at_a_time_are_those_of_all(name, monkeypatch):
    """Would catch a block of queries that gets what was prepared for another, and one that is left out."""
    features, class_ids, queries, base = draw()
    own = np.isin(class_ids, base)
    start = way(name).fit(features[own], class_ids[own], base=base)
    prepared = start.prepare(queries)
    one = copy.copy(start).add(features[~own], class_ids[~own])
    scores = one.scores(queries)
    monkeypatch.setattr(answer, "SCORES", 7 * len(one.classes))
    monkeypatch.setattr(lda, "SCORES", 7 * len(one.classes))
    named, best = one.answers(prepared)
    assert named.tolist() == one.classes[scores.argmax(axis=1)].tolist()
    np.testing.assert_allclose(best, scores.max(axis=1), atol=1e-12)
    # What is chosen on photographs held out is chosen block by block too.
    again = way(name).fit(features[own], class_ids[own], base=base)
    assert again.chosen == start.chosen


@each_way
def test_a_class_may_have_one_photograph_or_come_twice(name):
    """Would catch statistics of one photograph that are not finite; a class that is two."""
    features, class_ids, queries, base = draw()
    own = np.isin(class_ids, base)
    one = way(name).fit(features[own], class_ids[own], base=base)
    one.add(features[class_ids == 4][:1], [4])
    assert np.isfinite(one.scores(queries)).all()
    one.add(features[class_ids == 4][1:2], [4])
    assert one.classes.tolist() == [0, 1, 2, 3, 4]
    assert (one.class_ids == 4).sum() == 2


@each_way
def test_a_single_class_is_always_the_answer(name):
    """Would catch a way that needs two classes, or a second photograph."""
    features, _, queries, _ = draw()
    for count in (1, 5):
        one = way(name).fit(features[:count], np.full(count, 7))
        answers, scores = one.answers(queries)
        assert (answers == 7).all()
        assert np.isfinite(scores).all()
    with pytest.raises(StudyError, match="last class that the model was trained on"):
        one.remove(7)


@each_way
def test_equal_and_zero_features_have_finite_scores(name):
    """Would catch a division by the length of a collapsed embedding."""
    features = np.zeros((8, 5), dtype=np.float32)
    features[:4, 0] = 1
    one = way(name, 5).fit(features, np.arange(8) // 2)
    assert np.isfinite(one.scores(features)).all()
    one.add(features[:1], [9])
    assert np.isfinite(one.scores(features)).all()


@each_way
def test_mistakes_are_sentences(name):
    """Would catch a wrong answer, or a traceback of NumPy, in place of a sentence."""
    features, class_ids, queries, _ = draw()
    with pytest.raises(StudyError, match="no photographs yet"):
        way(name).scores(queries)
    with pytest.raises(StudyError, match="no photographs yet"):
        way(name).add(features, class_ids)
    with pytest.raises(StudyError, match="no photographs to learn"):
        way(name).fit(features[:0], class_ids[:0])
    with pytest.raises(StudyError, match="none of the photographs is of a class that the model"):
        way(name).fit(features, class_ids, base=[77])
    with pytest.raises(StudyError, match="not finite"):
        way(name).fit(np.full_like(features, np.nan), class_ids)
    with pytest.raises(StudyError, match="must be L2-normalised"):
        way(name).fit(3 * features, class_ids)
    with pytest.raises(StudyError, match="need as many class ids"):
        way(name).fit(features, class_ids[1:])
    with pytest.raises(StudyError, match="must be"):
        way(name).fit(features[0], class_ids)
    with pytest.raises(StudyError, match="given twice"):
        way(name).fit(features, class_ids, image_ids=np.zeros(len(features)))
    one = way(name).fit(features, class_ids)
    with pytest.raises(StudyError, match="13 dimensions cannot be compared with features of 12"):
        one.scores(np.eye(13, dtype=np.float32))
    with pytest.raises(StudyError, match="13 dimensions cannot be added to features of 12"):
        one.add(np.eye(13, dtype=np.float32), np.zeros(13))
    with pytest.raises(StudyError, match="photograph 3 has been added already"):
        one.add(features[:1], [0], image_ids=[3])


def test_ways_compute_on_one_thread():
    """Would catch a library that is loaded after the limit and does not know of it."""
    code = (
        "import json\n"
        "from threadpoolctl import threadpool_info\n"
        "from dmlstudy.evaluate.answer_tables import built, one_thread\n"
        "with one_thread():\n"
        "    built({'kind': 'lda'}), built({'kind': 'nearest'})\n"
        "    print(json.dumps([(one['prefix'], one['num_threads']) for one in threadpool_info()]))\n"
    )
    # As if there were several cores, and without the limits of the environment.
    environment = {key: value for key, value in os.environ.items() if "_NUM_THREADS" not in key}
    environment["OMP_NUM_THREADS"] = "2"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(registry.__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    pools = json.loads(done.stdout)
    # NumPy and SciPy bring a library each.
    assert len(pools) > 2
    assert {threads for _, threads in pools} == {1}, pools


def test_some_of_each_class_is_held_out():
    """Would catch a class that nothing is left of, and a choice that other classes decide."""
    class_ids = np.repeat([0, 1, 2, 3], [1, 2, 10, 30])
    held = held_out(class_ids)
    assert [int(held[class_ids == one].sum()) for one in range(4)] == [0, 1, 2, 6]
    again = held_out(class_ids[class_ids > 1])
    assert (again == held[class_ids > 1]).all()
