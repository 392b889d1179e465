"""Ways of answering of an index: chosen once, kept, with classes that come and go."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers import unit
from test_gallery import NAMES, Study

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.answer_tables import built
from dmlstudy.plan.evaluation_settings import ANSWERS
from dmlstudy.plan.recipes import complete_answers
from dmlstudy.use import answering
from dmlstudy.use.answering import check_answer, fitted, in_words, names, with_answers
from dmlstudy.use.gallery import check_removable, classify, enrol, remove_class
from dmlstudy.use.index_files import check_replaceable, read_gallery, write_gallery

PIECES = complete_answers([{"kind": kind} for kind in ANSWERS], ())
SEEN = np.arange(5) < 3
RNG = np.random.default_rng
each_way = pytest.mark.parametrize("name", ANSWERS)


class Run(Study):
    """A limited model, trained on three of five classes, whose loss learnt a vector per class."""

    def __init__(self, folder):
        super().__init__(folder)
        self.embeddings["classifier_class_ids"] = np.flatnonzero(SEEN)
        self.embeddings["classifier_weights"] = unit(RNG(7), 3, 8)

    def answering(self, seen=3, pieces=PIECES):
        """The gallery of the first ``seen`` classes, with ways of answering."""
        return with_answers(self.gallery(seen), pieces, base=SEEN, embeddings=self.embeddings)

    def way(self, gallery, name):
        """A way of answering fitted to photographs of a gallery from the beginning."""
        way = built(next(piece for piece in PIECES if piece["kind"] == name))
        if way.needs_weights:
            way.with_weights(dict(enumerate(self.embeddings["classifier_weights"])))
        table = gallery.table
        return way.fit(
            gallery.embeddings, table["class_id"], base=[0, 1, 2], image_ids=table["image_id"]
        )


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def stored(gallery, run, folder):
    """A gallery after a way to the disk and back."""
    write_gallery(folder, gallery)
    return read_gallery(folder, run.model)


def with_two_classes(gallery):
    """A gallery with an unseen class of the data set, of one photograph, and a new class."""
    rng = RNG(1)
    gallery = enrol(gallery, NAMES[4], unit(rng, 1, 8), ["/p/1"], digests=["a1" * 32])
    paths = [f"/blue/{number}" for number in range(4)]
    return enrol(
        gallery, "Blue Tit", unit(rng, 4, 8), paths, digests=[f"b{n}" * 32 for n in range(4)]
    )


@each_way
def test_index_answers_as_the_way_fitted_to_all_photographs(run, tmp_path, name):
    """Would catch classes that are base classes by mistake, and a way without what was enrolled."""
    gallery = stored(run.answering(), run, tmp_path / "index_seen")
    gallery = stored(with_two_classes(gallery), run, tmp_path / "index_enrolled")
    queries = unit(RNG(2), 30, 8)
    found = classify(gallery, queries, 3, answer=name)
    class_ids, scores = run.way(gallery, name).answers(queries)
    assert found["answer"].unique().tolist() == [name]
    assert found["answer_class_id"].tolist() == class_ids.tolist()
    np.testing.assert_allclose(found["answer_score"], scores, rtol=1e-6, atol=1e-6)
    spelled = [[*NAMES, "Blue Tit"][one] for one in class_ids]
    assert found["answer_class_name"].tolist() == spelled
    # What is unknown, the vote and the nearest image are those of the nearest neighbour.
    others = [column for column in found if not column.startswith("answer")]
    pd.testing.assert_frame_equal(found[others], classify(gallery, queries, 3)[others])


def test_nearest_neighbour_is_the_answer_unless_asked_otherwise(run):
    """Would catch another class or score in the columns of the answer."""
    found = classify(run.answering(), unit(RNG(2), 9, 8), 3)
    assert found["answer_class_name"].tolist() == found["nearest_class_name"].tolist()
    assert found["answer_score"].tolist() == found["similarity"].tolist()


def test_what_is_chosen_is_kept_and_not_chosen_again(run, tmp_path, monkeypatch):
    """Would catch a parameter that changes when classes are enrolled, or costs its choice again."""
    made = run.answering(seen=5)
    chosen = {entry["name"]: entry["chosen"] for entry in made.metadata["answers"]}
    # Photographs of unseen classes have no part in it.
    assert chosen == {name: run.way(run.gallery(3), name).chosen for name in ANSWERS}
    assert chosen["random_projection_ridge"]["width"] == 24
    assert chosen["lda"]["shrinkage"] > 0
    gallery = stored(with_two_classes(run.answering()), run, tmp_path / "index")
    monkeypatch.setattr("dmlstudy.evaluate.answers.lda.held_out", None)
    monkeypatch.setattr("dmlstudy.evaluate.answers.random_projection_ridge.held_out", None)
    for name in ANSWERS:
        assert fitted(gallery, name).chosen == chosen[name]
    # More photographs of a base class would allow more random features.
    more = enrol(gallery, NAMES[0], unit(RNG(3), 9, 8), list("abcdefghi"), existing=True)
    assert fitted(more, "random_projection_ridge").chosen["width"] == 24


def test_what_is_kept_is_used_and_has_one_copy(run, tmp_path, monkeypatch):
    """Would catch a factor that is computed again each time, or copied by each enrolment."""
    gallery = stored(run.answering(), run, tmp_path / "index_seen")
    names_of_files = [path.name for path in (tmp_path / "index_seen").glob("answer_*.npz")]
    position = names(gallery.metadata).index("random_projection_ridge")
    assert names_of_files == [f"answer_{position}.npz"]
    enrolled = stored(with_two_classes(gallery), run, tmp_path / "index_enrolled")
    files = [tmp_path / name / names_of_files[0] for name in ("index_seen", "index_enrolled")]
    assert files[0].samefile(files[1])
    queries = unit(RNG(2), 30, 8)
    expected = run.way(enrolled, "random_projection_ridge").scores(queries)
    monkeypatch.setattr("dmlstudy.evaluate.answers.random_projection_ridge.cholesky", None)
    found = fitted(enrolled, "random_projection_ridge").scores(queries)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_index_that_is_replaced_before_it_answers(run, tmp_path):
    """Would catch sums of one index that are taken with the photographs of another."""
    gallery = stored(run.answering(), run, tmp_path / "index")
    (name,) = gallery.kept
    photos = unit(RNG(5), 4, 8)
    before = answering.answered(gallery, name, photos)
    # What another program does meanwhile.
    more = enrol(gallery, "X", unit(RNG(6), 3, 8), ["/1", "/2", "/3"])
    base = gallery.table["class_name"][gallery.table["class_id"] == 0].iloc[0]
    write_gallery(tmp_path / "index", remove_class(more, base))
    after = answering.answered(gallery, name, photos)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_allclose(before[1], after[1], rtol=1e-6)


def test_file_system_without_hard_links_gets_a_copy(run, tmp_path, monkeypatch):
    """Would catch an enrolment that fails on a disk of another kind."""
    gallery = stored(run.answering(), run, tmp_path / "index_seen")

    def refused(*arguments):
        raise OSError("not supported")

    monkeypatch.setattr("dmlstudy.use.index_files.os.link", refused)
    write_gallery(tmp_path / "index_enrolled", gallery)
    file = next((tmp_path / "index_seen").glob("answer_*.npz"))
    assert (tmp_path / "index_enrolled" / file.name).read_bytes() == file.read_bytes()


def test_unreadable_file_of_a_way_is_named(run, tmp_path):
    """Would catch a traceback of NumPy for a file that was cut."""
    gallery = stored(run.answering(), run, tmp_path / "index")
    file = next((tmp_path / "index").glob("answer_*.npz"))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(StudyError, match=rf"{file.name}: cannot be read .*make the index again"):
        fitted(gallery, "random_projection_ridge")
    (tmp_path / "index" / "class_weights.npz").write_bytes(b"x")
    with pytest.raises(StudyError, match=r"class_weights.npz: cannot be read"):
        read_gallery(tmp_path / "index", run.model)


def test_index_of_an_older_version_answers_by_the_nearest_neighbour(run, tmp_path):
    """Would catch an index that no longer opens, or base classes that are guessed."""
    gallery = stored(with_two_classes(run.gallery(3)), run, tmp_path / "index")
    assert "answers" not in gallery.metadata
    assert names(gallery.metadata) == ["nearest"]
    check_answer(gallery.metadata, "nearest", "make it")
    with pytest.raises(StudyError, match=r"earlier version.*make the run's index with: make it"):
        check_answer(gallery.metadata, "lda", "make it")
    assert len(classify(gallery, gallery.embeddings, 3)) == 17
    assert len(remove_class(gallery, "Blue Tit").table) == 13


def test_unknown_ways_are_refused_with_the_list(run):
    """Would catch a traceback, or a message that does not say what would be right."""
    several = complete_answers(
        [{"kind": "lda"}, {"kind": "weighted_neighbours", "k": 5}, {"kind": "weighted_neighbours"}],
        (),
    )
    metadata = run.answering(pieces=several).metadata
    check_answer(metadata, "weighted_neighbours (k=5)", "")
    for name, words in (
        ("ldaa", "known: nearest, lda, weighted_neighbours.*did you mean lda"),
        ("weighted_neighbours", "did you mean weighted_neighbours"),
        ("class_mean", "Add class_mean to evaluation.answers of the configuration"),
        ("imprinted_classifier", "needs a loss that learns a vector per class"),
    ):
        with pytest.raises(StudyError, match=words):
            check_answer(metadata, name, "")


def test_classifier_is_left_out_without_class_weights(run):
    """Would catch an index that cannot be made for a loss of pairs, or weights from somewhere else."""
    del run.embeddings["classifier_weights"], run.embeddings["classifier_class_ids"]
    left = [name for name in ANSWERS if name != "imprinted_classifier"]
    assert names(run.answering().metadata) == left


def test_parameters_are_told_in_words(run):
    """Would catch a sentence without what was chosen."""
    metadata = run.answering().metadata
    assert "answers by lda (shrinkage 0." in in_words(metadata, "lda")
    assert in_words(metadata, "class_mean").startswith("answers by class_mean; unknown is what is")


# Removed classes.


def without_ids(answers):
    """Answers without the numbers of images and classes: these are not given again."""
    return answers[[column for column in answers if not column.endswith("_id")]]


@each_way
def test_removed_class_equals_never_enrolled(run, tmp_path, name):
    """Would catch what a removed class leaves behind in any way of answering."""
    start = stored(run.answering(), run, tmp_path / "index_seen")
    other = unit(RNG(5), 3, 8)
    both = enrol(with_two_classes(start), "other", other, ["/o/1", "/o/2", "/o/3"])
    removed = stored(remove_class(both, "Blue Tit"), run, tmp_path / "index_enrolled")
    never = enrol(start, NAMES[4], unit(RNG(1), 1, 8), ["/p/1"])
    never = enrol(never, "other", other, ["/o/1", "/o/2", "/o/3"])
    queries = unit(RNG(2), 30, 8)
    pd.testing.assert_frame_equal(
        without_ids(classify(removed, queries, 4, answer=name)),
        without_ids(classify(never, queries, 4, answer=name)),
    )


def test_removed_class_is_in_no_file(run, tmp_path):
    """Would catch a name, path, digest or vector that stays in the folder."""
    folder = tmp_path / "index_enrolled"
    gallery = stored(with_two_classes(run.answering()), run, folder)
    traces = [b"Blue Tit", b"/blue/", *(f"b{number}".encode() * 32 for number in range(4))]
    traces += [row.tobytes() for row in gallery.embeddings[-4:]]

    def found():
        content = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
        return [trace in content for trace in traces]

    assert all(found())
    removed = stored(remove_class(gallery, "Blue Tit"), run, folder)
    assert not any(found())
    # Ids are not given again, so that those in earlier answers keep their meaning.
    assert removed.metadata["class_names"] == [*NAMES, None]
    again = enrol(removed, "Blue Tit", unit(RNG(3), 1, 8), ["/blue/0"], digests=["b0" * 32])
    assert again.table.iloc[-1].tolist() == [13, 35, 6, "Blue Tit", "/blue/0"]
    assert again.metadata["class_names"][6] == "Blue Tit"
    # A class of the data set keeps its id, and only loses its photographs.
    assert remove_class(again, NAMES[4]).metadata["class_names"][:5] == NAMES
    assert [len(one.table) for one in (again, removed, gallery)] == [14, 13, 17]


def test_removed_class_of_the_data_set_leaves_no_factor_behind(run, tmp_path):
    """Would catch a kept factor that still holds the sums of the photographs of a removed class."""
    gallery = stored(run.answering(), run, tmp_path / "index_seen")
    removed = stored(remove_class(gallery, NAMES[1]), run, tmp_path / "index_enrolled")
    kept = next((tmp_path / "index_enrolled").glob("answer_*.npz"))
    with np.load(kept) as arrays:
        assert arrays["image_ids"].tolist() == removed.table["image_id"].tolist()
    queries = unit(RNG(2), 30, 8)
    chosen = fitted(gallery, "random_projection_ridge").chosen
    never = built({"kind": "random_projection_ridge"}).fit(
        removed.embeddings, removed.table["class_id"], base=[0, 2], chosen=chosen
    )
    found = fitted(removed, "random_projection_ridge").scores(queries)
    np.testing.assert_allclose(found, never.scores(queries), atol=1e-6)


def test_removing_what_cannot_be_removed_is_refused(run):
    """Would catch a way of answering without a class to start from, or an empty index."""
    gallery = with_two_classes(run.answering())
    for name in NAMES[:2]:
        gallery = remove_class(gallery, name)
    with pytest.raises(StudyError, match="it is the last class that the model was trained on"):
        remove_class(gallery, NAMES[2])
    with pytest.raises(StudyError, match="'Blue Titt' is not in the index; did you mean Blue Tit"):
        remove_class(gallery, "Blue Titt")
    alone = remove_class(remove_class(run.gallery(3), NAMES[0]), NAMES[1])
    with pytest.raises(StudyError, match="it is the only class of the index"):
        remove_class(alone, NAMES[2])
    assert check_removable(gallery.table, gallery.metadata, "Blue Tit") == "Blue Tit"


def test_files_of_ways_may_be_replaced_and_others_not(run, tmp_path):
    """Would catch an index that cannot be written again, or a file of somebody else that is removed."""
    write_gallery(tmp_path / "index", run.answering())
    check_replaceable(tmp_path / "index")
    assert json.loads((tmp_path / "index" / "index.json").read_text())["base_class_ids"] == [
        0,
        1,
        2,
    ]
    (tmp_path / "index" / "answer_mine.npz").touch()
    with pytest.raises(StudyError, match=r"holds other files \(answer_mine.npz\)"):
        check_replaceable(tmp_path / "index")


def test_making_an_index_changes_no_other(run):
    """Would catch arrays that two galleries share."""
    plain = run.gallery(3)
    with_answers(plain, PIECES, base=SEEN, embeddings=run.embeddings)
    assert plain.kept == {}
    made = run.answering()
    before = set(made.kept["random_projection_ridge"]["image_ids"].tolist())
    answering.renewed(remove_class(made, NAMES[0]))
    assert set(made.kept["random_projection_ridge"]["image_ids"].tolist()) == before
