"""Tables over features and ways of answering, against loops over queries."""

import numpy as np
import pandas as pd
import pytest

from dmlstudy.evaluate.answer_hits import AnswerHits, Enrolled
from dmlstudy.evaluate.combinations import (
    ACCEPTED,
    combination_table,
    cost_table,
    joined_queries,
    stranger_table,
)

FULL, SETS = "all_classes", ("limited_classes", "limited_classes_1")
WAYS = ("nearest", "lda")
SAMPLING = {"draws": 400, "seed": 1}
# Classes that are unseen in each set; their numbers of queries differ.
UNSEEN = {"limited_classes": (3, 4), "limited_classes_1": (0, 3)}
CLASSES = np.repeat(np.arange(5), [4, 3, 5, 2, 6])


def queries_of(seed, sizes=("1", "all")):
    """A table with a row per query, and shares of the draws in which each way answers it right."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in (FULL, *SETS):
        for size in ("all",) if name == FULL else sizes:
            for image, class_id in enumerate(CLASSES):
                seen = name == FULL or class_id not in UNSEEN[name]
                if seen and size != "all":
                    continue
                keys = {"seed": 42, "class_set": name, "images_per_class": size}
                query = {"query": image, "class_id": class_id, "seen": int(seen)}
                # Few images are drawn several times: a share.
                hits = {
                    way: rng.integers(0, 3) / 2 if size == "1" else rng.integers(0, 2)
                    for way in WAYS
                }
                rows.append({**keys, **query, **hits})
    return pd.DataFrame(rows)


def hits_of(table):
    """`AnswerHits` of a table of `queries_of`; few images are drawn twice."""

    def of_size(name, size):
        rows = table[(table["class_set"] == name) & (table["images_per_class"] == size)]
        found = np.zeros((len(WAYS), len(CLASSES)))
        found[:, rows["query"]] = rows[list(WAYS)].T
        return found

    classifier = np.ones((1, len(CLASSES)))
    trained = np.concatenate([of_size(FULL, "all"), classifier])[None].astype(bool)
    found = AnswerHits(CLASSES, list(WAYS), [*WAYS, "softmax"], trained)
    for name in SETS:
        sizes = table.loc[table["class_set"] == name, "images_per_class"].unique().tolist()
        draws = [1 if size == "all" else 2 for size in sizes]
        counts = [of_size(name, size) * n for size, n in zip(sizes, draws, strict=True)]
        found.enrolled[name] = Enrolled(sizes, draws, np.stack(counts, axis=1)[None].astype(int))
    return found


def joined(**tables):
    seen = {name: ~np.isin(np.arange(5), unseen) for name, unseen in UNSEEN.items()}
    return joined_queries({name: hits_of(table) for name, table in tables.items()}, seen, FULL)


@pytest.fixture(scope="module")
def tables():
    return {"one": queries_of(1), "two": queries_of(2)}


@pytest.fixture(scope="module")
def found(tables):
    return combination_table(joined(**tables), FULL, **SAMPLING)


def by_hand(table, way, figure, size):
    """The mean over class sets of the mean over queries."""
    if figure == "all_classes":
        rows = [row for row in table.to_dict("records") if row["class_set"] == FULL]
        return np.mean([row[way] for row in rows])
    means = []
    for name in SETS:
        means.append(
            np.mean(
                [
                    row[way]
                    for row in table.to_dict("records")
                    if row["class_set"] == name
                    and row["images_per_class"] == size
                    and row["seen"] == (figure == "seen_classes")
                ]
            )
        )
    return np.mean(means)


def test_values_are_means_over_sets_of_means_over_queries(tables, found):
    """Would catch sets weighted by their queries, seen queries among the unseen, and rows of another size."""
    rows = found.set_index(["figure", "images_per_class", "experiment", "answer"])["value"]
    sizes = {"all_classes": ["all"], "seen_classes": ["all"], "unseen_classes": ["1", "all"]}
    for experiment, table in tables.items():
        for way in WAYS:
            for figure, of_figure in sizes.items():
                for size in of_figure:
                    expected = by_hand(table, way, figure, size)
                    assert rows[figure, size, experiment, way] == pytest.approx(expected)
            parts = [
                rows[part, "all", experiment, way] for part in ("seen_classes", "unseen_classes")
            ]
            both = rows["harmonic_mean", "all", experiment, way]
            assert both == pytest.approx(2 / sum(1 / part for part in parts))
    assert len(found) == 4 * 5


def test_best_and_differences(found):
    """Would catch a difference to another row, one of another sign, and an interval that is not paired."""
    for _, rows in found.groupby(["figure", "images_per_class"]):
        best = rows[rows["best"] == 1]
        assert len(best) == 1
        assert best["value"].iat[0] == rows["value"].max()
        difference = rows["value"] - rows["value"].max()
        np.testing.assert_allclose(rows["difference_to_best"], difference, atol=1e-12)
        own = best[["difference_to_best_low", "difference_to_best_high"]].to_numpy()
        np.testing.assert_array_equal(own, 0)
        assert (rows["low"] <= rows["value"]).all()
        assert (rows["value"] <= rows["high"]).all()


def test_differences_are_paired(tables):
    """Would catch intervals of two independent resamples: those of equal answers would not be 0."""
    same = {"one": tables["one"], "again": tables["one"]}
    found = combination_table(joined(**same), FULL, **SAMPLING)
    found = found.set_index("experiment")
    ends = ["difference_to_best", "difference_to_best_low", "difference_to_best_high"]
    one, again = (found.loc[name].reset_index(drop=True) for name in same)
    pd.testing.assert_frame_equal(one[ends], again[ends])


def test_intervals_of_new_classes_resample_classes(tables):
    """Would catch intervals that take queries of one class for independent ones.

    All queries of a class are answered alike, so that the interval is that of so many classes.
    """
    table = tables["one"].copy()
    for way in WAYS:
        table[way] = (table["class_id"] % 2).astype(float)
    found = combination_table(joined(one=table), FULL, draws=2000, seed=1)
    row = found[(found["figure"] == "unseen_classes") & (found["images_per_class"] == "all")].iloc[
        0
    ]
    # Three classes play new ones: all of a resample may be class 3, or none.
    assert (row["low"], row["high"]) == (0, 1)
    assert (row["classes"], row["queries"]) == (3, 12)
    known = found[found["figure"] == "all_classes"].iloc[0]
    assert (known["classes"], known["queries"]) == (5, 20)


def test_sizes_are_those_of_all_sets(tables):
    """Would catch a point of a curve that stands for other classes than its neighbours."""
    table = tables["one"]
    alone = table[(table["class_set"] == SETS[0]) & (table["images_per_class"] == "1")]
    more = pd.concat([table, alone.assign(images_per_class="5")], ignore_index=True)
    found = combination_table(joined(one=more), FULL, **SAMPLING)
    assert set(found["images_per_class"]) == {"1", "all"}


def test_different_queries_are_refused(tables):
    """Would catch pairs of different photographs."""
    one, other = hits_of(tables["one"]), hits_of(tables["two"])
    other.query_classes = CLASSES[::-1]
    seen = {name: np.ones(5, dtype=bool) for name in SETS}
    with pytest.raises(ValueError, match="answered different queries"):
        joined_queries({"one": one, "two": other}, seen, FULL)


def test_strangers_are_judged_over_draws():
    """Would catch the model of all classes, another threshold, or another share among the figures."""
    answers = pd.DataFrame(
        [
            {"class_set": FULL, "answer": "nearest", "rejection_auroc": np.nan},
            {"class_set": SETS[0], "answer": "nearest", "rejection_auroc": 0.6},
            {"class_set": SETS[1], "answer": "nearest", "rejection_auroc": 0.8},
            {"class_set": SETS[0], "answer": "lda", "rejection_auroc": 0.9},
            {"class_set": SETS[1], "answer": "lda", "rejection_auroc": 0.5},
        ]
    )
    keys = ("class_set", "model", "way", "accepted_share", "accepted_unknown_classes")
    thresholds = pd.DataFrame(
        [
            dict(zip(keys, row, strict=True))
            for row in (
                (SETS[0], SETS[0], "held_out_classes", ACCEPTED, 0.7),
                (SETS[1], SETS[1], "held_out_classes", ACCEPTED, 0.5),
                (SETS[0], FULL, "held_out_classes", ACCEPTED, 0.1),
                (SETS[0], SETS[0], "own_images", ACCEPTED, 0.1),
                (SETS[0], SETS[0], "held_out_classes", 0.9, 0.1),
            )
        ]
    ).assign(accepted_seen_classes=0.93)
    table = stranger_table({"one": answers}, {"one": thresholds}, FULL).set_index("answer")
    nearest, lda = table.loc["nearest"], table.loc["lda"]
    assert nearest[["auroc", "auroc_least", "auroc_most"]].tolist() == pytest.approx(
        [0.7, 0.6, 0.8]
    )
    told = ["called_unknown", "called_unknown_least", "called_unknown_most"]
    assert nearest[told].tolist() == pytest.approx([0.4, 0.3, 0.5])
    assert nearest["accepted_seen_classes"] == pytest.approx(0.93)
    assert nearest["draws"] == 2
    assert lda["auroc"] == pytest.approx(0.7)
    # The threshold is one of the similarity to the nearest image.
    assert lda[told].isna().all()


def test_costs_are_those_of_the_features_and_of_the_way():
    """Would catch a time per photograph of another number of photographs, or a mean for a median."""
    costs = pd.DataFrame(
        {
            "answer": "nearest",
            "seconds_to_fit": [0.1, 0.2, 9.0],
            "seconds_to_add_a_class": [0.01, 0.02, 0.03],
            "images_of_that_class": [8, 10, 40],
            "milliseconds_a_query": [0.5, 0.6, 0.7],
        }
    )
    features = {"device": "cpu", "dimensions": 64, "images": 200, "total_seconds": 12.0}
    (row,) = cost_table({"one": costs}, {"one": features}).to_dict("records")
    assert row["milliseconds_a_photograph"] == pytest.approx(60)
    assert (row["seconds_to_fit"], row["images_of_that_class"]) == (0.2, 10)
    assert (row["device"], row["dimensions"], row["seconds_of_features"]) == ("cpu", 64, 12.0)
