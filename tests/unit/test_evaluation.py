"""Metrics agree with a slow reference, with scikit-learn and with pytorch-metric-learning."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from helpers import unit
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import retrieval
from dmlstudy.evaluate.evaluation import (
    class_metrics,
    classification_report,
    compare_class_sets,
    summarise,
)
from dmlstudy.evaluate.retrieval import (
    answer_queries,
    normalised_mutual_information,
    read_embeddings,
)

RECALL_AT, VOTES = (1, 2, 4, 8), (1, 5, 10)


class Case:
    """Random embeddings of images in clusters. Image ids are shuffled over gallery and queries.

    Class 0 has one gallery image, class 1 has queries only, class 2 has a gallery only, class 3 has
    one image of each.
    """

    def __init__(self, classes, gallery, queries, seed=0):
        rng = np.random.default_rng(seed)
        self.classes = classes
        self.names = [f"name {index}" for index in range(classes)]
        gallery_classes = np.concatenate([[0, 3], rng.choice([2, *range(4, classes)], gallery - 2)])
        query_classes = np.concatenate(
            [[0, 0, 1, 1, 3], rng.choice([0, 1, *range(4, classes)], queries - 5)]
        )
        ids = rng.permutation(gallery + queries)
        self.gallery_ids, self.query_ids = np.sort(ids[:gallery]), np.sort(ids[gallery:])
        self.class_ids = np.empty(len(ids), dtype=np.int64)
        self.class_ids[self.gallery_ids] = rng.permutation(gallery_classes)
        self.class_ids[self.query_ids] = rng.permutation(query_classes)
        vectors = unit(rng, classes, 16)[self.class_ids] + 0.8 * unit(rng, len(ids), 16)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.embeddings = {
            "gallery_embeddings": vectors[self.gallery_ids],
            "gallery_image_ids": self.gallery_ids,
            "query_embeddings": vectors[self.query_ids],
            "query_image_ids": self.query_ids,
        }
        self.table = answer_queries(
            self.embeddings, self.class_ids, recall_at=RECALL_AT, votes=VOTES, threads=1
        )

    def slow(self):
        """[(class, class of the nearest gallery image)] of each query, by comparing all pairs."""
        answers = []
        gallery = self.embeddings["gallery_embeddings"].astype(float)
        for image, query in zip(self.query_ids, self.embeddings["query_embeddings"], strict=True):
            best, nearest = -2.0, None
            for other, similarity in zip(self.gallery_ids, gallery @ query, strict=True):
                if similarity > best:
                    best, nearest = similarity, other
            answers.append((int(self.class_ids[image]), int(self.class_ids[nearest])))
        return answers

    def metrics(self):
        return class_metrics(self.table, self.class_ids[self.gallery_ids], self.names)


@pytest.fixture(scope="module", params=["few classes", "1,000 classes"])
def case(request):
    return Case(12, 90, 70) if request.param == "few classes" else Case(1000, 1500, 900)


def test_answers_equal_a_slow_search(case):
    """Would catch a neighbour or class looked up by row instead of by image id."""
    assert list(zip(case.table["class_id"], case.table["nearest_class_id"], strict=True)) == (
        case.slow()
    )
    assert 0.1 < case.table["correct"].mean() < 0.95, "the case must hold hits and misses"


def test_metrics_equal_a_slow_reference(case):
    """Would catch micro and macro swapped, or classes without queries counted in the macro mean."""
    answers = case.slow()
    hits, counts = [0] * case.classes, [0] * case.classes
    for truth, found in answers:
        counts[truth] += 1
        hits[truth] += truth == found
    shares = [h / c if c else None for h, c in zip(hits, counts, strict=True)]
    metrics = case.metrics()
    for share, row in zip(shares, metrics.itertuples(), strict=True):
        assert math.isnan(row.precision_at_1) if share is None else row.precision_at_1 == share
    assert metrics["test_samples"].tolist() == counts
    gallery = case.class_ids[case.gallery_ids].tolist()
    assert metrics["train_samples"].tolist() == [gallery.count(c) for c in range(case.classes)]
    summary = summarise(case.table, len(gallery), np.ones(case.classes, bool), 0.5)
    present = [share for share in shares if share is not None]
    assert summary["precision_at_1"] == pytest.approx(sum(hits) / len(answers), abs=1e-12)
    assert summary["macro_precision_at_1"] == pytest.approx(sum(present) / len(present), abs=1e-12)
    assert summary["precision_at_1"] != pytest.approx(summary["macro_precision_at_1"], abs=1e-4)
    assert (summary["queries"], summary["gallery"]) == (len(answers), len(gallery))


def test_metrics_equal_scikit_learn(case):
    """Would catch recall and precision of the report swapped, or rows in the wrong order."""
    truth, found = case.table["class_id"], case.table["nearest_class_id"]
    labels = list(range(case.classes))
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        truth, found, labels=labels, zero_division=0
    )
    report = classification_report(case.table, case.names)
    classes = report[report["row"] == "class"]
    assert classes["class_name"].tolist() == case.names
    for column, expected in (("precision", precision), ("recall", recall), ("f1_score", f1)):
        np.testing.assert_allclose(classes[column], expected, atol=1e-12)
    assert classes["support"].tolist() == support.tolist()
    # Recall of a class is its precision@1.
    np.testing.assert_allclose(
        case.metrics()["precision_at_1"].fillna(0), classes["recall"], atol=1e-12
    )
    averages = report[report["row"] == "average"].set_index("class_name")
    accuracy = sklearn.metrics.accuracy_score(truth, found)
    assert averages.loc["accuracy", "recall"] == pytest.approx(accuracy, abs=1e-12)
    assert averages.loc["accuracy", "support"] == len(case.table)
    assert averages.loc["macro avg", "precision"] == pytest.approx(precision.mean(), abs=1e-12)
    weighted = (recall * support).sum() / support.sum()
    assert averages.loc["weighted avg", "recall"] == pytest.approx(weighted, abs=1e-12)


@pytest.mark.parametrize("macro", [False, True])
def test_metrics_equal_pytorch_metric_learning(case, macro):
    """Would catch a definition of precision@1 that differs from the field's."""
    gallery_classes = case.class_ids[case.gallery_ids]
    calculator = AccuracyCalculator(
        include=("precision_at_1",), k=1, avg_of_avgs=macro, device=torch.device("cpu")
    )
    theirs = calculator.get_accuracy(
        torch.from_numpy(case.embeddings["query_embeddings"]),
        torch.from_numpy(case.class_ids[case.query_ids]),
        torch.from_numpy(case.embeddings["gallery_embeddings"]),
        torch.from_numpy(gallery_classes),
        ref_includes_query=False,
    )["precision_at_1"]
    # The library leaves out queries whose class is not in the gallery; here they count as wrong.
    answerable = case.table[case.table["class_id"].isin(gallery_classes)]
    assert len(answerable) < len(case.table)
    seen = np.ones(case.classes, bool)
    key = "macro_precision_at_1" if macro else "precision_at_1"
    assert summarise(answerable, 1, seen, 0.0)[key] == pytest.approx(theirs, abs=1e-9)
    counted = [
        rows["class_id"].nunique() if macro else len(rows) for rows in (answerable, case.table)
    ]
    ours = summarise(case.table, 1, seen, 0.0)[key]
    assert ours == pytest.approx(theirs * counted[0] / counted[1], abs=1e-9)


def test_query_without_its_class_in_the_gallery_is_wrong(case):
    """Would catch such queries left out, which makes a model look better."""
    absent = case.table[case.table["class_id"] == 1]
    assert len(absent) >= 2
    assert absent["correct"].tolist() == [0] * len(absent)
    assert case.metrics()["precision_at_1"][1] == 0.0


class WithRecall(AccuracyCalculator):
    """pytorch-metric-learning's calculator with recall@k, as its documentation shows."""

    def calculate_recall_at_k(self, knn_labels, query_labels, **_):
        matches = knn_labels[:, : self.recall_at] == query_labels[:, None]
        return matches.any(dim=1).double().mean().item()

    def requires_knn(self):
        return [*super().requires_knn(), "recall_at_k"]


def theirs(case, metric, k):
    """A metric of a case by pytorch-metric-learning.

    With ``k`` None it takes as many neighbours as it needs.
    """
    gallery_classes = case.class_ids[case.gallery_ids]
    calculator = WithRecall(
        include=(metric,), k="max_bin_count" if k is None else k, device=torch.device("cpu")
    )
    calculator.recall_at = k
    return calculator.get_accuracy(
        torch.from_numpy(case.embeddings["query_embeddings"]),
        torch.from_numpy(case.class_ids[case.query_ids]),
        torch.from_numpy(case.embeddings["gallery_embeddings"]),
        torch.from_numpy(gallery_classes),
        ref_includes_query=False,
    )[metric]


@pytest.mark.parametrize(
    ("metric", "key", "k"),
    [
        *[("recall_at_k", f"recall_at_{k}", k) for k in RECALL_AT],
        ("r_precision", "r_precision", None),
        ("mean_average_precision_at_r", "map_at_r", None),
    ],
)
def test_quality_of_the_space_equals_pytorch_metric_learning(case, metric, key, k):
    """Would catch recall over too few neighbours, or R counted over queries."""
    summary = summarise(case.table, 1, np.ones(case.classes, bool), 0.0, recall_at=RECALL_AT)
    share = 1.0
    if metric != "recall_at_k":
        # The library leaves out queries whose class is not in the gallery; ours score 0.
        share = case.table["class_id"].isin(case.class_ids[case.gallery_ids]).mean()
        assert share < 1
    assert summary[key] == pytest.approx(theirs(case, metric, k) * share, abs=1e-9)


def test_nmi_equals_pytorch_metric_learning(case):
    """Would catch clusters of the gallery, a wrong number of clusters or another seed."""
    ours = normalised_mutual_information(case.embeddings, case.class_ids, threads=1)
    assert ours == pytest.approx(theirs(case, "NMI", 1), abs=1e-9)


def test_votes_equal_a_slow_count():
    """Would catch a vote of too few neighbours, or a tie that goes to a smaller class id."""
    case = Case(40, 200, 150)
    gallery = case.embeddings["gallery_embeddings"].astype(float)
    classes = case.class_ids[case.gallery_ids]
    ties = 0
    for query, row in zip(
        case.embeddings["query_embeddings"], case.table.itertuples(), strict=True
    ):
        order = classes[np.argsort(-(gallery @ query), kind="stable")]
        for n in VOTES[1:]:
            counts = Counter(order[:n].tolist())
            best = [c for c, votes in counts.items() if votes == max(counts.values())]
            ties += len(best) > 1
            # Ties go to the class with the closest neighbour: the first in order of distance.
            assert getattr(row, f"vote_{n}_class_id") == next(c for c in order if c in best)
    assert ties > 10


def test_chunks_of_queries_give_the_same_answers(case, monkeypatch):
    """Would catch answers of the second chunk that overwrite the first, or get lost."""
    monkeypatch.setattr(retrieval, "PAIRS", 200)
    again = answer_queries(
        case.embeddings, case.class_ids, recall_at=RECALL_AT, votes=VOTES, threads=1
    )
    pd.testing.assert_frame_equal(again, case.table)


def queries_of(class_ids, nearest, softmax=None):
    table = pd.DataFrame({"class_id": class_ids, "nearest_class_id": nearest})
    table["correct"] = (table["class_id"] == table["nearest_class_id"]).astype(int)
    for column in ("first_correct_rank", "r_precision", "average_precision_at_r", "similarity"):
        table[column] = table["correct"]
    if softmax is not None:
        table["softmax_class_id"] = softmax
    return table


SEEN = np.array([True, True, False])


def test_seen_and_unseen_queries_are_told_apart():
    """Would catch the masks of seen and unseen classes swapped."""
    table = queries_of([0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 0, 2])
    summary = summarise(table, 9, SEEN, 0.75)
    assert summary["precision_at_1_seen_classes"] == 3 / 4
    assert summary["precision_at_1_unseen_classes"] == 1 / 2
    assert (summary["classes"], summary["seen_classes"], summary["gallery"]) == (3, 2, 9)
    assert summary["test_accuracy_known_classes"] == 0.75


def test_full_class_set_has_no_unseen_metric():
    """Would catch NaN, which is not JSON, if there are no unseen queries."""
    summary = summarise(queries_of([0, 1], [0, 0]), 2, np.ones(2, bool), 0.5)
    assert summary["precision_at_1_unseen_classes"] is None
    assert summary["precision_at_1_seen_classes"] == 0.5


def test_softmax_accuracy_is_of_known_classes():
    """Would catch unseen queries, which a softmax cannot answer, or answers of neighbours."""
    table = queries_of([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2], softmax=[0, 1, 1, 0, 0, 1])
    assert summarise(table, 6, SEEN, 1.0)["softmax_accuracy_known_classes"] == 2 / 4
    assert "softmax_accuracy_known_classes" not in summarise(queries_of([0], [0]), 1, SEEN, 1.0)


def test_softmax_answers_follow_their_queries():
    """Would catch a classifier's answers attached to other images."""
    embeddings = {
        "gallery_embeddings": np.eye(2, dtype=np.float32),
        "gallery_image_ids": np.array([0, 2]),
        "query_embeddings": np.eye(2, dtype=np.float32)[[1, 0]],
        "query_image_ids": np.array([1, 3]),
        "query_softmax_class_ids": np.array([1, 0]),
    }
    table = answer_queries(embeddings, np.array([0, 1, 1, 0]))
    assert table["softmax_class_id"].tolist() == [1, 0]
    assert table["nearest_image_id"].tolist() == [2, 0]
    assert table["similarity"].tolist() == [1.0, 1.0]
    assert table["correct"].tolist() == [1, 1]


def test_drops_equal_a_slow_reference():
    """Would catch a drop of the wrong sign, of the wrong classes, or weighted by queries."""
    before = pd.DataFrame({"class_name": list("abcd"), "precision_at_1": [0.9, 0.8, np.nan, 0.6]})
    after = pd.DataFrame({"class_name": list("abcd"), "precision_at_1": [0.5, 0.9, np.nan, 0.1]})
    tables, scalars = compare_class_sets(before, after, np.array([True, True, True, False]))
    assert scalars["precision_drop_seen_classes"] == pytest.approx((0.4 - 0.1) / 2)
    assert scalars["precision_drop_unseen_classes"] == pytest.approx(0.5)
    assert scalars["precision_drop_all_classes"] == pytest.approx((0.4 - 0.1 + 0.5) / 3)
    assert tables["unseen"]["class_name"].tolist() == ["d"]
    assert tables["seen"]["class_name"].tolist() == ["a", "b", "c"]
    assert tables["all"].columns.tolist() == [
        "class_name",
        "all_classes_precision_at_1",
        "limited_classes_precision_at_1",
    ]
    assert tables["unseen"].iloc[0].tolist() == ["d", 0.6, 0.1]


def test_drops_of_two_searches_equal_loops(case):
    """Would catch classes of the two models matched wrongly."""
    seen = np.arange(case.classes) < case.classes - 3
    other = Case(case.classes, len(case.gallery_ids), len(case.query_ids), seed=1)
    shares = [one.metrics()["precision_at_1"].tolist() for one in (case, other)]
    scalars = compare_class_sets(case.metrics(), other.metrics(), seen)[1]
    for name, chosen in (("seen", seen), ("unseen", ~seen), ("all", seen | ~seen)):
        drops = [
            first - second
            for first, second, wanted in zip(*shares, chosen, strict=True)
            if wanted and not math.isnan(first - second)
        ]
        expected = sum(drops) / len(drops) if drops else None
        assert scalars[f"precision_drop_{name}_classes"] == pytest.approx(expected, abs=1e-12)


def test_class_called_like_an_average_keeps_its_row():
    """Would catch the row of a class called "accuracy" overwritten by the average of that name."""
    names = ["accuracy", "macro avg", "other"]
    report = classification_report(queries_of([0, 0, 1, 2], [0, 1, 1, 0]), names)
    classes = report[report["row"] == "class"]
    assert classes["class_name"].tolist() == names
    assert classes["recall"].tolist() == [0.5, 1.0, 0.0]
    assert report.loc[report["row"] == "average", "class_name"].tolist() == [
        "accuracy",
        "macro avg",
        "weighted avg",
    ]


# Bad input.


def stored(folder, **changes):
    """A file of four gallery images of two classes and two queries; ``changes`` replaces arrays."""
    arrays = {
        "gallery_embeddings": np.eye(4, dtype=np.float32),
        "gallery_image_ids": np.arange(4),
        "query_embeddings": np.eye(4, dtype=np.float32)[:2],
        "query_image_ids": np.array([4, 5]),
        **changes,
    }
    with open(folder / "embeddings.npz", "wb") as stream:
        np.savez(stream, **arrays)
    return folder / "embeddings.npz"


CLASS_IDS = np.array([0, 0, 1, 1, 0, 1])


@pytest.mark.parametrize("role", ["gallery", "query"])
def test_embeddings_that_are_not_finite_are_refused(tmp_path, role):
    """Would catch metrics of a model that diverged."""
    broken = np.ones((4 if role == "gallery" else 2, 4), np.float32)
    broken[1, 2] = np.nan
    path = stored(tmp_path, **{f"{role}_embeddings": broken})
    with pytest.raises(StudyError, match=rf"embeddings\.npz: 1 of \d {role} .*lower its optimizer"):
        read_embeddings(path)


def test_zero_vectors_are_logged_and_tie(tmp_path, caplog):
    """Would catch a division by 0, or an arbitrary nearest neighbour."""
    path = stored(tmp_path, query_embeddings=np.zeros((2, 4), np.float32))
    table = answer_queries(read_embeddings(path), CLASS_IDS)
    assert "2 of 2 query embeddings are zero" in caplog.text
    # All ties, so the smallest image id.
    assert table["nearest_image_id"].tolist() == [0, 0]
    assert table["similarity"].tolist() == [0.0, 0.0]


def test_more_neighbours_than_the_gallery_has(tmp_path):
    """Would catch neighbours that do not exist among the votes or ranks."""
    embeddings = read_embeddings(stored(tmp_path))
    table = answer_queries(embeddings, CLASS_IDS, recall_at=(1, 50), votes=(50,))
    # Two votes each: the class of the closest neighbour wins.
    assert table["vote_50_class_id"].tolist() == [0, 0]
    assert table["first_correct_rank"].tolist() == [1, 3]


def test_one_query(tmp_path):
    """Would catch a mean, a cluster or an interval that needs two."""
    path = stored(
        tmp_path,
        query_embeddings=np.eye(4, dtype=np.float32)[:1],
        query_image_ids=np.array([4]),
    )
    embeddings = read_embeddings(path)
    table = answer_queries(embeddings, CLASS_IDS, recall_at=(1, 2), votes=(2,))
    nmi = normalised_mutual_information(embeddings, CLASS_IDS)
    summary = summarise(table, 4, np.array([True, False]), 1.0, recall_at=(1, 2), nmi=nmi)
    assert summary["precision_at_1"] == summary["recall_at_2"] == summary["r_precision"] == 1.0
    assert summary["harmonic_mean"] is None


def test_class_without_a_gallery_scores_nothing():
    """Would catch a division by R = 0, or such queries left out of the mean."""
    embeddings = {
        "gallery_embeddings": np.eye(4, dtype=np.float32)[:2],
        "gallery_image_ids": np.arange(2),
        "query_embeddings": np.eye(4, dtype=np.float32)[[0, 2]],
        "query_image_ids": np.array([4, 5]),
    }
    table = answer_queries(embeddings, CLASS_IDS, recall_at=(1, 2))
    assert table["correct"].tolist() == [1, 0]
    assert table["first_correct_rank"].tolist() == [1, 0]
    assert table["r_precision"].tolist() == [1.0, 0.0]
    assert table["average_precision_at_r"].tolist() == [1.0, 0.0]
