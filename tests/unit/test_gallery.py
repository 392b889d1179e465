"""The gallery as an index: threshold, answers, enrolment, files."""

import itertools
import json
import math
import os
import threading

import faiss
import numpy as np
import pandas as pd
import pytest
from helpers import unit

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.evaluate.metrics import majority_vote
from dmlstudy.evaluate.thresholds import reached_by, similarities_to_others
from dmlstudy.use import index_files, replacing
from dmlstudy.use.gallery import Gallery, classify, enrol, make_gallery
from dmlstudy.use.index_choices import in_words
from dmlstudy.use.index_files import (
    check_gallery,
    exclusive_access,
    index_folder,
    read_gallery,
    write_gallery,
)

# Names that could break a table, a page or a terminal.
NAMES = ['Tit, "Blue"', "two\nlines", "<script>alert(1)</script>", "NA", "mütze"]


def slow_vote(class_ids, n):
    """(class, votes) by counting; ties go to the class that appears first."""
    answers = []
    for row in class_ids:
        votes = {}
        for class_id in row[:n]:
            votes[class_id] = votes.get(class_id, 0) + 1
        most = max(votes.values())
        answers.append(next((c, most) for c in row if votes.get(c) == most))
    return answers


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 50])
def test_majority_vote_equals_counting(n):
    """Would catch ties that go to the smallest class id, or votes of neighbours beyond the n-th."""
    class_ids = np.random.default_rng(n).integers(0, 4, (300, 8))
    found = list(zip(*(part.tolist() for part in majority_vote(class_ids, n)), strict=True))
    assert found == slow_vote(class_ids.tolist(), n)


def test_tied_vote_goes_to_the_class_whose_nearest_member_is_nearest():
    """Would catch ties that go to the last class, the smallest id or the smallest mean distance."""
    class_ids = np.array([[7, 3, 3, 7], [3, 7, 7, 3], [9, 3, 7, 7], [5, 4, 3, 2]])
    winners, votes = majority_vote(class_ids, 4)
    assert winners.tolist() == [7, 3, 7, 5]
    assert votes.tolist() == [2, 2, 2, 1]
    assert majority_vote(class_ids[:1], 4)[0].tolist() == [7]


def test_vote_without_voters_is_refused():
    """Would catch a class without votes."""
    for class_ids, n in (([[1, 2]], 0), ([[1, 2]], -1), (np.empty((1, 0), int), 3)):
        with pytest.raises(ValueError, match="at least one neighbour"):
            majority_vote(class_ids, n)


def at(*degrees):
    """Unit vectors (n, 2) at these angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def choose_threshold(vectors, share):
    """The threshold of an index whose images it is chosen on."""
    return reached_by(similarities_to_others(vectors), share)


def test_threshold_on_paper():
    """Would catch an image as its own neighbour, or the wrong end of the quantile."""
    vectors = at(0, 10, 30, 60, 100)
    # Nearest other image: 10, 10, 20, 30 and 40 degrees away.
    for share, degrees in ((1, 40), (0.8, 30), (0.6, 20), (0.2, 10)):
        assert choose_threshold(vectors, share) == pytest.approx(math.cos(math.radians(degrees)))


def test_copies_are_each_others_neighbours():
    """Would catch a copy dropped together with the image itself."""
    assert choose_threshold(at(0, 0, 0, 90, 90), 1) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99, 1])
def test_threshold_accepts_the_share_asked_for(share):
    """Would catch a quantile that accepts fewer images than index.json says."""
    for count in (2, 3, 20, 41):
        vectors = unit(np.random.default_rng(count), count, 8)
        similarities = vectors.astype(float) @ vectors.T.astype(float)
        np.fill_diagonal(similarities, -2)
        accepted = similarities.max(axis=1) >= choose_threshold(vectors, share) - 1e-12
        # Two images that are nearest to each other are accepted together.
        assert share <= accepted.mean() < share + 2 / count


class Study:
    """A gallery of 5 classes with 4 images each; the image ids leave gaps where queries are."""

    def __init__(self, folder, seed=0):
        rng = np.random.default_rng(seed)
        self.manifest = pd.DataFrame(
            {
                "image_id": range(30),
                "path": [f"images/{i // 6}/{i}.jpg" for i in range(30)],
                "class_id": np.arange(30) // 6,
                "class_name": [NAMES[i // 6] for i in range(30)],
            }
        )
        ids = np.array([i for i in range(30) if i % 6 not in (2, 5)])
        self.embeddings = {
            "gallery_embeddings": unit(rng, len(ids), 8),
            "gallery_image_ids": ids,
        }
        self.model = folder / "model.pt"
        self.model.write_bytes(b"weights")

    def gallery(self, seen=5):
        return make_gallery(
            self.embeddings,
            self.manifest,
            np.arange(5) < seen,
            model_sha256=file_digest(self.model),
            accepted_share=0.95,
        )


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def test_index_comes_back_as_it_was_written(study, tmp_path):
    """Would catch vectors in the wrong order, or names that change in the table."""
    gallery = study.gallery()
    write_gallery(tmp_path / "index", gallery)
    found = read_gallery(tmp_path / "index", study.model)
    np.testing.assert_array_equal(found.embeddings, study.embeddings["gallery_embeddings"])
    pd.testing.assert_frame_equal(found.table, gallery.table)
    assert (
        found.metadata
        == gallery.metadata
        == json.loads((tmp_path / "index/index.json").read_text())
    )
    assert found.table["class_name"].unique().tolist() == NAMES
    assert found.table["image_id"].tolist() == study.embeddings["gallery_image_ids"].tolist()
    assert found.table["path"].tolist() == [
        f"images/{i // 6}/{i}.jpg" for i in found.table["image_id"]
    ]
    index = faiss.read_index(str(tmp_path / "index/gallery.faiss"))
    assert isinstance(index, faiss.IndexFlatIP)
    assert (index.ntotal, index.d) == (20, 8)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == [
        "gallery.csv",
        "gallery.faiss",
        "index.json",
    ]


def test_index_of_an_older_version_still_answers(study, tmp_path):
    """Would catch an error, or a made-up probability, for an index without a calibration."""
    write_gallery(tmp_path / "index", study.gallery())
    path = tmp_path / "index/index.json"
    metadata = json.loads(path.read_text())
    del metadata["calibration"], metadata["threshold"]["way"]
    path.write_text(json.dumps(metadata))
    found = read_gallery(tmp_path / "index", study.model)
    answers = classify(found, found.embeddings[:3], 2)
    assert answers["probability"].isna().all()
    assert answers["known"].tolist() == [1, 1, 1]
    text = in_words(found.metadata["threshold"], found.metadata.get("calibration"))
    assert "95 % of the index's own 20 images" in text
    assert "no probability" in text


def test_held_out_classes_choose_also_for_an_index_without_them(study):
    """Would catch an index of seen classes whose threshold comes from images that the model was trained on."""
    held_out = np.arange(5) >= 3
    found = [
        make_gallery(
            study.embeddings,
            study.manifest,
            indexed,
            model_sha256="",
            accepted_share=0.8,
            way="held_out_classes",
            held_out=held_out,
        )
        for indexed in (~held_out, held_out | ~held_out)
    ]
    assert found[0].metadata["threshold"] == found[1].metadata["threshold"]
    assert found[0].metadata["threshold"]["images"] == 8
    assert found[0].table["class_id"].max() == 2
    others = similarities_to_others(study.embeddings["gallery_embeddings"])[-8:]
    assert found[0].metadata["threshold"]["similarity"] == reached_by(others, 0.8)


def test_unseen_classes_have_no_part_in_an_index_of_seen_ones(study):
    """Would catch a threshold chosen on classes that should be unknown."""
    before = study.gallery(seen=3)
    assert before.table["class_id"].unique().tolist() == [0, 1, 2]
    assert before.metadata["only_seen_classes"]
    assert not study.gallery().metadata["only_seen_classes"]
    unseen = study.embeddings["gallery_image_ids"] >= 18
    study.embeddings["gallery_embeddings"][unseen] = unit(np.random.default_rng(9), 8, 8)
    after = study.gallery(seen=3)
    assert after.metadata == before.metadata
    np.testing.assert_array_equal(after.embeddings, before.embeddings)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_broken_embeddings_make_no_index(study, value):
    """Would catch NaN in the index, which is a neighbour of everything."""
    study.embeddings["gallery_embeddings"][3, 1] = value
    with pytest.raises(StudyError, match="not finite"):
        study.gallery()


def test_gallery_of_one_image_makes_no_index(study):
    """Would catch a threshold of an index without other images."""
    study.embeddings = {key: value[:1] for key, value in study.embeddings.items()}
    with pytest.raises(StudyError, match="at least two"):
        study.gallery()


def test_answers_on_paper():
    """Would catch a wrong distance, a threshold that excludes equality, ties decided by row."""
    table = pd.DataFrame(
        {
            "row": range(4),
            "image_id": [40, 30, 20, 10],
            "class_id": [0, 1, 1, 0],
            "class_name": ["a", "b", "b", "a"],
            "path": list("wxyz"),
        }
    )
    metadata = {"class_names": ["a", "b"], "threshold": {"similarity": 0.6}}
    vectors = np.array([[1, 0], [0, 1], [0, 1], [-1, 0]], dtype=np.float32)
    gallery = Gallery(vectors, table, metadata)
    queries = np.array([[0, 1], [0.8, 0.6], [-0.6, -0.8]], dtype=np.float32)
    found = classify(gallery, queries, 3)
    # Two equal images: the smaller id. The second: 0.8, 0.6, 0.6: two votes beat the nearest.
    assert found["nearest_image_id"].tolist() == [20, 40, 10]
    assert found["nearest_path"].tolist() == ["y", "w", "z"]
    assert found["nearest_class_name"].tolist() == ["b", "a", "a"]
    np.testing.assert_allclose(found["similarity"], [1, 0.8, 0.6], atol=1e-7)
    np.testing.assert_allclose(found["distance"], [0, 0.4**0.5, 0.8**0.5], atol=1e-6)
    assert found["vote_class_name"].tolist() == ["b", "b", "a"]
    assert found["votes"].tolist() == [2, 2, 2]
    assert found["voters"].tolist() == [3, 3, 3]
    exact = float(found["similarity"][2])
    assert classify(gallery, queries, 1, exact)["known"].tolist() == [1, 1, 1]
    assert classify(gallery, queries, 1, exact + 1e-9)["known"].tolist() == [1, 1, 0]
    assert classify(gallery, queries, 1)["known"].tolist() == [1, 1, int(exact >= 0.6)]
    # Five are asked for, all four vote; the tie goes to the class of the nearest image.
    clipped = classify(gallery, queries, 5)
    assert clipped["voters"].tolist() == [4, 4, 4]
    assert clipped["vote_class_name"].tolist() == ["b", "a", "a"]


def test_ids_of_enrolled_photographs_never_collide(study):
    """Would catch image ids that belong to queries or unseen images of the data set."""
    gallery = study.gallery(seen=3)
    rng = np.random.default_rng(1)
    # An unseen class of the data set, a new class, and more images of the first one.
    first = enrol(gallery, NAMES[4], unit(rng, 3, 8), ["/p/1", "/p/2", "/p/3"])
    second = enrol(first, "Blue Tit", unit(rng, 2, 8), ["/q/1", "/q/2"])
    third = enrol(second, NAMES[4], unit(rng, 1, 8), ["/p/4"], existing=True)
    assert third.table["image_id"].tolist()[-6:] == [30, 31, 32, 33, 34, 35]
    assert third.table["class_id"].tolist()[-6:] == [4, 4, 4, 5, 5, 4]
    assert third.table["path"].tolist()[-6:] == ["/p/1", "/p/2", "/p/3", "/q/1", "/q/2", "/p/4"]
    assert third.table["row"].tolist() == list(range(18))
    assert not third.table["image_id"].duplicated().any()
    assert third.metadata["class_names"] == [*NAMES, "Blue Tit"]
    assert third.metadata["images"] == len(third.embeddings) == 18
    assert third.metadata["threshold"] == gallery.metadata["threshold"]
    assert not third.metadata["only_seen_classes"]
    # The original gallery has not changed.
    assert len(gallery.table) == len(gallery.embeddings) == 12
    assert gallery.metadata["class_names"] == NAMES


def test_enrolled_photographs_are_found(study):
    """Would catch a wrong name for an enrolled class, or rows that do not match their vectors."""
    photos = unit(np.random.default_rng(2), 3, 8)
    gallery = enrol(study.gallery(), "Blue Tit", photos, ["/1", "/2", "/3"])
    found = classify(gallery, photos, 1)
    assert found["nearest_class_name"].tolist() == ["Blue Tit"] * 3
    assert found["nearest_path"].tolist() == ["/1", "/2", "/3"]
    assert found["vote_class_name"].tolist() == ["Blue Tit"] * 3
    np.testing.assert_allclose(found["similarity"], 1, atol=1e-6)


def test_enrolment_that_does_not_fit_is_refused(study):
    """Would catch merged classes, photographs counted twice, vectors of another model."""
    photos = unit(np.random.default_rng(2), 2, 8)
    gallery = enrol(study.gallery(), "Blue Tit", photos, ["/1", "/2"])
    with pytest.raises(StudyError, match="'Blue Tit' is already in the index; use --add-to-exist"):
        enrol(gallery, "Blue Tit", photos, ["/3", "/4"])
    with pytest.raises(StudyError, match="'Great Tit' is not in the index; leave out --add-to-e"):
        enrol(gallery, "Great Tit", photos, ["/3", "/4"], existing=True)
    with pytest.raises(StudyError, match="/2: this photograph is already in the index"):
        enrol(gallery, "Great Tit", photos, ["/3", "/2"])
    with pytest.raises(
        StudyError, match="/3: this photograph is already in the index, or was given twice"
    ):
        enrol(gallery, "Great Tit", photos, ["/3", "/3"])
    with pytest.raises(StudyError, match="8 dimensions"):
        enrol(gallery, "Great Tit", photos[:, :7], ["/3", "/4"])


def test_classes_enrolled_at_the_same_time_are_all_kept(study, tmp_path):
    """Would catch two programs that overwrite each other's classes."""
    out = tmp_path / "index_enrolled"
    write_gallery(out, study.gallery())
    together = threading.Barrier(6)

    def work(number):
        photos = unit(np.random.default_rng(number), 2, 8)
        together.wait()
        with exclusive_access(out):
            gallery = read_gallery(out, study.model)
            gallery = enrol(gallery, f"class {number}", photos, [f"/{number}/1", f"/{number}/2"])
            write_gallery(out, gallery)

    threads = [threading.Thread(target=work, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_gallery(out, study.model)
    assert set(found.metadata["class_names"]) == {
        *NAMES,
        *(f"class {number}" for number in range(6)),
    }
    assert found.table["image_id"].tolist()[-12:] == list(range(30, 42))


@pytest.mark.parametrize("mistake", ["mixed", "gone"])
def test_index_that_is_replaced_while_it_is_read(study, tmp_path, monkeypatch, mistake):
    """Would catch a reader that gets the table of one index and the names of another, or that is told to make an
    index anew, because another program enrolled meanwhile; and one that reads for ever."""
    folder, photo = tmp_path / "index", unit(np.random.default_rng(2), 1, 8)
    indexes = [
        enrol(study.gallery(), name, photo, ["/1"]) for name in ("tit", "wren", "robin", "owl")
    ]
    write_gallery(folder, indexes[0])
    pending, read_table = indexes[1:3], index_files.read_table

    def slowly(place):
        if pending:
            write_gallery(folder, pending.pop(0))
            if mistake == "gone":
                # As seen through a folder that was removed.
                raise FileNotFoundError(2, "No such file", str(place))
        return read_table(place)

    monkeypatch.setattr(index_files, "read_table", slowly)
    found = read_gallery(folder, study.model)
    assert found.metadata["class_names"][-1] == found.table["class_name"].iloc[-1] == "robin"
    pending += indexes[::-1] * index_files.ATTEMPTS
    with pytest.raises(StudyError, match="changed this index 20 times while it was read"):
        read_gallery(folder, study.model)


@pytest.mark.parametrize("step", ["write", "exchange", "rename"])
def test_failed_writing_leaves_the_old_index(study, tmp_path, monkeypatch, step):
    """Would catch a lost index, or an incomplete new one, when the disk is full."""
    folder = tmp_path / "index"
    write_gallery(folder, study.gallery())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    added = enrol(study.gallery(), "Blue Tit", unit(np.random.default_rng(2), 1, 8), ["/1"])

    def full(*arguments):
        raise OSError("no space left")

    if step == "write":
        monkeypatch.setattr(index_files, "write_json", full)
    elif step == "exchange":
        monkeypatch.setattr(replacing, "_exchanged", full)
    else:
        # A file system that cannot exchange two names.
        monkeypatch.setattr(replacing, "_exchanged", lambda *names: False)
        rename, calls = os.rename, itertools.count()
        monkeypatch.setattr(os, "rename", lambda *a: full() if next(calls) == 1 else rename(*a))
    with pytest.raises(OSError, match="no space left"):
        write_gallery(folder, added)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".index")]


def test_index_of_another_model_is_refused(study, tmp_path):
    """Would catch embeddings of two models compared with each other."""
    write_gallery(tmp_path / "index", study.gallery())
    check_gallery(tmp_path / "index", study.model)
    study.model.write_bytes(b"other weights")
    for read in (check_gallery, read_gallery):
        with pytest.raises(StudyError, match=r"made with another model than .*model\.pt"):
            read(tmp_path / "index", study.model)
    write_gallery(tmp_path / "index_seen", study.gallery())
    study.model.write_bytes(b"weights once more")
    # The command makes the given folder, or the one that enrolment started from.
    for name, made in (("index_seen", "index_seen"), ("index", "index")):
        with pytest.raises(StudyError, match=rf"snakemake --cores all \S+/{made} "):
            check_gallery(tmp_path / name, study.model)


def cut(path):
    path.write_bytes(path.read_bytes()[:100])


# Damaged indexes: (change of the folder, words that the message must contain).
MISTAKES = {
    "no index": (
        lambda f: (f / "index.json").unlink(),
        ["there is no index", "snakemake", "/index"],
    ),
    "not JSON": (lambda f: (f / "index.json").write_text("{"), ["index.json", "not valid JSON"]),
    "not a mapping": (lambda f: (f / "index.json").write_text("[]"), ["version 1", "snakemake"]),
    "a key is missing": (
        lambda f: (f / "index.json").write_text('{"version": 1}'),
        ["index.json", "version 1"],
    ),
    "no table": (lambda f: (f / "gallery.csv").unlink(), ["gallery.csv", "cannot be read"]),
    "empty table": (lambda f: (f / "gallery.csv").write_text(""), ["gallery.csv"]),
    "other columns": (
        lambda f: (f / "gallery.csv").write_text("class_name,path\na,b\n"),
        ["gallery.csv", "must have the columns"],
    ),
    "a row is missing": (
        lambda f: (f / "gallery.csv").write_text("row,image_id,class_id,class_name,path\n"),
        ["do not belong together"],
    ),
    "no vectors": (lambda f: (f / "gallery.faiss").unlink(), ["gallery.faiss", "cannot read"]),
    "half of the vectors": (lambda f: cut(f / "gallery.faiss"), ["gallery.faiss", "cannot read"]),
    "other vectors": (
        lambda f: faiss.write_index(faiss.IndexFlatIP(8), str(f / "gallery.faiss")),
        ["do not belong together"],
    ),
}


@pytest.mark.parametrize("key", ["threshold", "class_names", "model_sha256", "images"])
def test_index_that_lacks_a_key_is_refused_in_words(study, tmp_path, key):
    """Would catch an incomplete index.json that causes a KeyError later."""
    write_gallery(tmp_path / "index", study.gallery())
    metadata = json.loads((tmp_path / "index" / "index.json").read_text())
    del metadata[key]
    (tmp_path / "index" / "index.json").write_text(json.dumps(metadata))
    with pytest.raises(StudyError, match="not an index of version 1"):
        check_gallery(tmp_path / "index", study.model)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_broken_index_is_refused_in_words(study, tmp_path, mistake):
    """Would catch a traceback, or results from inconsistent files."""
    change, words = MISTAKES[mistake]
    write_gallery(tmp_path / "index", study.gallery())
    change(tmp_path / "index")
    with pytest.raises(StudyError) as error:
        read_gallery(tmp_path / "index", study.model)
    for word in words:
        assert word in str(error.value)


def test_missing_model_is_said_with_what_makes_it(study, tmp_path):
    """Would catch a traceback for a run that is not finished."""
    write_gallery(tmp_path / "index", study.gallery())
    study.model.unlink()
    with pytest.raises(StudyError, match=r"model\.pt: no such file; train the run with: snakemake"):
        check_gallery(tmp_path / "index", study.model)


def test_index_folder_that_is_meant(tmp_path):
    """Would catch an enrolled class that is not used, or a path taken for a name."""
    assert index_folder(tmp_path) == tmp_path / "index"
    (tmp_path / "index_enrolled").mkdir()
    assert index_folder(tmp_path) == tmp_path / "index_enrolled"
    assert index_folder(tmp_path, "index") == tmp_path / "index"
    assert str(index_folder(tmp_path, "./index")) == "index"
    assert str(index_folder(tmp_path, "/elsewhere/index")) == "/elsewhere/index"
