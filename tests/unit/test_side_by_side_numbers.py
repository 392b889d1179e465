"""Differences of any two models, and what the page of all experiments holds of their answers."""

import base64
import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.comparison import differences_table
from dmlstudy.evaluate.side_by_side import MODELS, pair_differences
from dmlstudy.evaluate.study_metrics import Answers
from dmlstudy.pages import side_by_side
from dmlstudy.pages.images import PageImages

CLASSES, QUERIES = 4, 40
SEEN = np.array([True, True, True, False])


def table(seed):
    """Answers to the queries 0, 1, …; gallery images follow them and have classes in turn."""
    generator = np.random.default_rng(seed)
    ids = np.arange(QUERIES)
    nearest = QUERIES + generator.integers(0, QUERIES, QUERIES)
    return pd.DataFrame(
        {
            "image_id": ids,
            "class_id": ids % CLASSES,
            "nearest_image_id": nearest,
            "nearest_class_id": nearest % CLASSES,
            "nearest_seen_class_id": nearest % CLASSES,
            "similarity": generator.uniform(-1, 1, QUERIES),
            "correct": (nearest % CLASSES == ids % CLASSES).astype(int),
        }
    )


def answers(first, seeds=2):
    """An experiment of two seeds and two draws of unseen classes."""
    return Answers(
        [table(first + seed) for seed in range(seeds)],
        {
            name: [table(first + 10 * draw + seed) for seed in range(seeds)]
            for draw, name in enumerate(("limited_classes", "limited_classes_1"), start=1)
        },
        {"limited_classes": SEEN, "limited_classes_1": SEEN[::-1]},
    )


STUDY = {name: answers(100 * number) for number, name in enumerate("abc")}
NOTHING = pd.DataFrame(columns=["experiment", "compared_with", "role", "metric"])


def test_a_difference_is_the_one_that_tables_have():
    """Would catch another function, other resamples or other weights than those of differences.csv."""
    compared = [("b", "a", "like"), ("c", "a", "baseline"), ("b", "c", "published")]
    stated = differences_table(STUDY, compared, draws=300, seed=7)
    found = pair_differences(STUDY, NOTHING, draws=300, seed=7)
    assert len(found) == 15
    checked = 0
    for row in stated.to_dict("records"):
        for kind, metric in MODELS.items():
            if row["metric"] != metric:
                continue
            pair = (row["experiment"], kind), (row["compared_with"], kind)
            wanted = [row[key] for key in ("difference", "low", "high")]
            own = found.get(pair) or [-found[pair[::-1]][place] for place in (0, 2, 1)]
            assert own == pytest.approx(wanted, abs=1e-12)
            checked += 1
    assert checked == 6


def test_what_the_table_states_is_taken_from_there():
    """Would catch a page that computes what stands in a table, or reads the softmax as the nearest neighbour."""
    stated = pd.DataFrame(
        [
            {"experiment": "c", "compared_with": "a", "role": "baseline", "metric": "precision_at_1",
             "difference": 0.5, "low": 0.25, "high": 0.75},
            {"experiment": "b", "compared_with": "a", "role": "classifier", "metric": "precision_at_1",
             "difference": 0.9, "low": 0.8, "high": 1.0},
        ]
    )  # fmt: skip
    found = pair_differences(STUDY, stated, draws=50, seed=7)
    assert found[("a", "all"), ("c", "all")] == (-0.5, -0.75, -0.25)
    computed = pair_differences(STUDY, NOTHING, draws=50, seed=7)
    pair = ("a", "all"), ("b", "all")
    assert found[pair] == computed[pair]


class Pixels:
    """A pack whose image i is of colour i."""

    def __len__(self):
        return 2 * QUERIES

    def image(self, row):
        return np.full((60, 80, 3), row, dtype=np.uint8)


def images():
    ids = np.arange(2 * QUERIES)
    manifest = pd.DataFrame(
        {"image_id": ids, "class_id": ids % CLASSES, "path": [f"{one}.jpg" for one in ids],
         "width": 80, "height": 60}
    )  # fmt: skip
    manifest["class_name"] = manifest["class_id"].astype(str)
    parts = ["test"] * QUERIES + ["train"] * QUERIES
    return PageImages(Pixels(), manifest, pd.DataFrame({"image_id": ids, "part": parts}))


def unpacked(found):
    return json.loads(gzip.decompress(base64.b64decode(found["packed"])))


def section(study, pairs=None):
    pairs = pairs or dict.fromkeys([(0, 1)], (0.0304, -0.01, math.nan))
    links = {name: [f"../{name}/report.html", "x"] for name in study}
    return side_by_side.side_by_side(study, "limited_classes", pairs, images(), "../t.webp", links)


def test_answers_in_the_page_are_those_of_the_first_seed():
    """Would catch answers of another seed, class set or query, and a distance that is rounded wrongly."""
    data = unpacked(section(STUDY))
    assert data["models"] == [[name, kind] for name in "abc" for kind in ("all", "limited")]
    assert data["pairs"] == [[30, -10, None, 0]]
    named = np.array(data["images"])
    for (name, kind), nearest, distances in zip(
        data["models"], data["nearest"], data["distances"], strict=True
    ):
        one = STUDY[name].all[0] if kind == "all" else STUDY[name].limited["limited_classes"][0]
        places = np.frombuffer(base64.b64decode(nearest), dtype="<u2")
        assert named[places].tolist() == one["nearest_image_id"].tolist()
        wanted = np.sqrt(2 - 2 * one["similarity"])
        shown = np.frombuffer(base64.b64decode(distances), dtype=np.uint8) / 100
        assert np.abs(shown - wanted).max() <= 0.005 + 1e-9


def test_too_many_answers_are_sampled_evenly(monkeypatch):
    """Would catch a page that grows without bound, or a sample of the first classes only."""
    monkeypatch.setattr(side_by_side, "ANSWERS", 60)
    found = section(STUDY)
    assert (found["queries"], found["shown"]) == (QUERIES, 10)
    data = unpacked(found)
    queries = np.frombuffer(base64.b64decode(data["queries"]), dtype="<u2")
    ids = np.array(data["images"])[queries]
    assert ids[0] == 0
    assert ids[-1] == QUERIES - 1
    assert np.diff(ids).max() <= 5


def test_a_table_that_contradicts_itself_is_refused():
    """Would catch a page that calls an answer wrong which the tables count as right."""
    broken = answers(900)
    broken.all[0]["correct"] = 1 - broken.all[0]["correct"]
    with pytest.raises(StudyError, match="another class"):
        section({"a": broken})


def test_same_answers_same_bytes():
    """Would catch a time in the compressed text."""
    assert section(STUDY)["packed"] == section(STUDY)["packed"]
