"""The contract of all stores: the same enrolments give the same answers, and a change is there whole or not at all."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from changing import (
    MOMENTS,
    PHOTOGRAPHS,
    counts,
    enrol_and_die,
    enrol_class,
    enrol_classes,
    in_process,
)
from helpers import unit
from test_gallery import NAMES, Study
from test_index_answers import Run, with_two_classes

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.plan.evaluation_settings import ANSWERS
from dmlstudy.plan.recipes import complete_answers
from dmlstudy.use.answering import names
from dmlstudy.use.gallery import classify, enrol, make_gallery, only_classes, remove_class
from dmlstudy.use.stores.places import open_store
from dmlstudy.use.stores.tables import SEARCHED

QUERIES = unit(np.random.default_rng(9), 12, 8)


def put(place, run, gallery):
    """Write an index; returns its store."""
    store = open_store(place, run)
    store.check()
    with store.changing():
        store.write(gallery)
    return store


def check_equal(found, wanted):
    """Two galleries hold the same, but for what ways of answering keep."""
    np.testing.assert_array_equal(found.embeddings, wanted.embeddings)
    pd.testing.assert_frame_equal(found.table, wanted.table)
    assert (found.metadata, found.digests) == (wanted.metadata, wanted.digests)
    assert found.class_weights.keys() == wanted.class_weights.keys()
    for name, array in wanted.class_weights.items():
        np.testing.assert_array_equal(found.class_weights[name], array)


STEPS = {
    "nothing": lambda gallery: gallery,
    "two classes": with_two_classes,
    "added": lambda gallery: enrol(
        gallery, "Blue Tit", unit(np.random.default_rng(3), 2, 8), ["/b/8", "/b/9"], existing=True
    ),
    "a class of the study removed": lambda gallery: remove_class(gallery, NAMES[1]),
    "an enrolled class removed": lambda gallery: remove_class(gallery, "Blue Tit"),
    "a class renamed": lambda gallery: replace(
        gallery,
        table=gallery.table.assign(
            class_name=gallery.table["class_name"].replace(NAMES[0], "new name")
        ),
        metadata=gallery.metadata
        | {"class_names": ["new name", *gallery.metadata["class_names"][1:]]},
    ),
    "in another order": lambda gallery: replace(
        gallery,
        embeddings=gallery.embeddings[::-1].copy(),
        table=gallery.table[::-1].reset_index(drop=True).assign(row=range(len(gallery.table))),
    ),
    "other vectors": lambda gallery: replace(gallery, embeddings=-gallery.embeddings, kept={}),
}
# Small, so that what it keeps is soon computed again.
SMALL = {"random_projection_ridge": {"width": 40}}
PIECES = complete_answers([{"kind": kind} | SMALL.get(kind, {}) for kind in ANSWERS], ())


def test_same_changes_give_the_same_answers(place, tmp_path):
    """Would catch a store that loses, reorders or rounds anything, in any kind of change; and answers, in any way,
    that differ from those of the index in memory."""
    run = Run(tmp_path)
    wanted = run.answering(pieces=PIECES)
    assert not open_store(place, tmp_path).exists()
    store = put(place, tmp_path, wanted)
    stamps = [store.stamp()]
    for step in STEPS.values():
        wanted = step(wanted)
        with store.changing():
            store.write(step(store.read()))
        check_equal(store.read(), wanted)
        other = open_store(place, tmp_path)
        # As another program sees it.
        check_equal(other.read(), wanted)
        assert other.metadata() == wanted.metadata
        pd.testing.assert_frame_equal(other.table(), wanted.table)
        stamps.append(other.stamp())
        for answer in names(wanted.metadata):
            found, right = (
                classify(one, QUERIES, 3, answer=answer) for one in (other.read(), wanted)
            )
            pd.testing.assert_frame_equal(found, right, rtol=1e-6, atol=1e-6)
    assert len(set(stamps)) == len(STEPS) + 1


@pytest.fixture(scope="module")
def with_ties():
    """A gallery of 400 images of 12 classes, many of them copies of each other; and queries."""
    rng = np.random.default_rng(4)
    vectors = rng.integers(-1, 2, (400, 6)).astype(np.float32)
    vectors[(vectors == 0).all(axis=1)] = 1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    classes = np.arange(400) % 12
    manifest = pd.DataFrame(
        {
            "image_id": np.arange(400),
            "path": [f"{image}.jpg" for image in range(400)],
            "class_id": classes,
            "class_name": [f"class {one}" for one in classes],
        }
    )
    arrays = {"gallery_embeddings": vectors, "gallery_image_ids": rng.permutation(400)}

    def made(model):
        return make_gallery(
            arrays, manifest, np.ones(12, bool), model_sha256=file_digest(model), accepted_share=0.9
        )

    return made, np.concatenate([vectors[:6], unit(rng, 6, 6)])


ONLY = {"all": None, "one": ["class 7"], "some": ["class 1", "class 11", "class 4"]}


def test_search_in_the_store_equals_the_exact_search(place, tmp_path, with_ties):
    """Would catch a search that is approximate, loses a tie, forgets the filter, or takes the second class, on
    which the probability depends, from too few images."""
    made, queries = with_ties
    # As few as are searched for in a database.
    queries = np.concatenate([queries[:2], queries[-2:]])
    assert len(queries) <= SEARCHED
    gallery = made(Study(tmp_path).model)
    store = put(place, tmp_path, gallery)
    for only in ONLY.values():
        part = only_classes(gallery, only)
        allowed = set(part.table["class_name"])
        assert allowed == set(only or gallery.table["class_name"])
        similarities = queries.astype(float) @ part.embeddings.astype(float).T
        for count in (1, 5, 50, 1000, 10**20):
            near = store.near(queries, count, only)
            assert set(near.table["class_name"]) <= allowed
            found = classify(near, queries, count)
            pd.testing.assert_frame_equal(found, classify(part, queries, count))
            # By hand: the most similar, of these the smallest id.
            for row, values in zip(found.itertuples(), similarities, strict=True):
                best = part.table["image_id"][values > values.max() - 1e-9].min()
                assert row.nearest_image_id == best
                assert row.voters == min(count, len(part.table))
        # So many that the whole index is read.
        many = np.concatenate([queries] * 5)
        found = classify(store.near(many, 5, only), many, 5)
        pd.testing.assert_frame_equal(found, classify(part, many, 5))
    with pytest.raises(StudyError, match=r"'class 77' is not in the index.*class 7"):
        store.near(queries, 1, ["class 77"])


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_change_is_there_whole_or_not_at_all(place, tmp_path, moment):
    """Would catch a class by half, a lost index or a lock that stays, after kill -9 at a moment of an enrolment."""
    before = Study(tmp_path).gallery()
    put(place, tmp_path, before)
    killed = in_process(enrol_and_die, place, tmp_path, "first", moment)
    killed.join(60)
    assert killed.exitcode == -9
    expected = {"first": PHOTOGRAPHS} if MOMENTS[moment] else {}
    store = open_store(place, tmp_path)
    assert counts(store.read()) == expected
    if not expected:
        check_equal(store.read(), before)
    enrol_class(place, tmp_path, "second")
    assert counts(open_store(place, tmp_path).read()) == expected | {"second": PHOTOGRAPHS}


@pytest.mark.parametrize("wait", [0, 0.013, 0.03])
def test_killed_program_has_what_it_acknowledged(place, tmp_path, wait):
    """Would catch an enrolment that is reported before it is on the disk, by a kill at any time."""
    put(place, tmp_path, Study(tmp_path).gallery())
    told = tmp_path / "told"
    names = [f"class {number}" for number in range(1000)]
    process = in_process(enrol_classes, place, tmp_path, names, told)
    end = time.monotonic() + 60
    while not told.exists() or told.read_text().count("\n") < 3:
        assert process.is_alive()
        assert time.monotonic() < end
        time.sleep(0.002)
    time.sleep(wait)
    process.kill()
    process.join()
    found = counts(open_store(place, tmp_path).read())
    acknowledged = told.read_text().split("\n")[:-1]
    # The next one may be there too.
    assert list(found.values()) == [PHOTOGRAPHS] * len(found)
    assert found.keys() - {names[len(acknowledged)]} == set(acknowledged)
    enrol_class(place, tmp_path, "afterwards")
    assert "afterwards" in counts(open_store(place, tmp_path).read())


def test_programs_that_change_it_at_the_same_time_lose_nothing(place, tmp_path):
    """Would catch two programs that overwrite each other's classes or give an id twice, and a reader who sees a
    class by half."""
    store = put(place, tmp_path, Study(tmp_path).gallery())
    names = [[f"{process} {number}" for number in range(4)] for process in range(3)]
    processes = [
        in_process(enrol_classes, place, tmp_path, own, tmp_path / own[0]) for own in names
    ]
    while any(process.is_alive() for process in processes):
        assert set(counts(store.read()).values()) <= {PHOTOGRAPHS}
        time.sleep(0.01)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = store.read()
    assert counts(found) == {name: PHOTOGRAPHS for own in names for name in own}
    assert sorted(found.table["image_id"])[-36:] == list(range(30, 66))


def test_index_of_another_model_is_refused(place, tmp_path):
    """Would catch embeddings of two models that are compared."""
    study = Study(tmp_path)
    store = put(place, tmp_path, study.gallery())
    study.model.write_bytes(b"other weights")
    for read in (store.read, store.metadata, lambda: store.near(QUERIES, 1)):
        with pytest.raises(StudyError, match="made with another model"):
            read()


def test_index_of_another_version_is_refused(place, tmp_path):
    """Would catch a traceback, or answers of what cannot be read."""
    gallery = Study(tmp_path).gallery()
    gallery.metadata["version"] = 2
    store = put(place, tmp_path, gallery)
    with pytest.raises(StudyError, match="not an index of version 1"):
        store.metadata()


def test_store_without_an_index_says_so(place, tmp_path):
    """Would catch a traceback, or a file that reading makes."""
    Study(tmp_path)
    before = set(tmp_path.iterdir())
    store = open_store(place, tmp_path)
    assert not store.exists()
    assert store.stamp() is None
    with pytest.raises(StudyError, match="there is no index"):
        store.metadata()
    store.check()
    assert set(tmp_path.iterdir()) == before


def test_index_is_replaced_by_one_of_other_dimensions(place, tmp_path):
    """Would catch images of an earlier model that stay."""
    study = Study(tmp_path)
    store = put(place, tmp_path, study.gallery())
    study.embeddings["gallery_embeddings"] = unit(np.random.default_rng(1), 20, 5)
    put(place, tmp_path, study.gallery())
    check_equal(store.read(), study.gallery())


@pytest.mark.parametrize("kind", ["faiss", "sqlite"])
def test_removed_class_is_gone_from_the_files(kind, tmp_path):
    """Would catch a path, a name or an embedding that stays in what a file no longer uses."""
    store = put(f"{kind}:{tmp_path / 'a store'}", tmp_path, Study(tmp_path).gallery())
    vectors = unit(np.random.default_rng(1), 40, 8)
    paths = [f"/secret place/{number}.jpg" for number in range(40)]
    with store.changing():
        store.write(enrol(store.read(), "secret bird", vectors, paths))

    def content():
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        return b"".join(path.read_bytes() for path in files)

    words = [b"secret place", b"secret bird", vectors[7].tobytes()]
    assert all(word in content() for word in words)
    with store.changing():
        store.write(remove_class(store.read(), "secret bird"))
    assert not [word for word in words if word in content()]
    assert Path(tmp_path / "a store").exists()
