"""A long enrolment that is interrupted goes on where it ended."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from helpers import run_program
from tiny_service import copy_of, make_run, photographs_of

from dmlstudy.use import unfinished
from dmlstudy.use.index_files import read_gallery
from dmlstudy.use.trained_model import TrainedModel
from dmlstudy.use.unfinished import embed_in_parts, forget

ENROL = Path(__file__).parents[2] / "workflow" / "scripts" / "enrol.py"


class Model:
    """Stands for a `TrainedModel`: an embedding tells the photograph and its place in the batch."""

    at_a_time = 100

    def __init__(self, ends_after=None):
        self.asked, self.ends_after = [], ends_after

    def embed(self, paths, *, max_pixels, progress):
        if len(self.asked) == self.ends_after:
            raise KeyboardInterrupt
        self.asked.append(list(paths))
        wrong = [f"{one}: broken" for one in paths if str(one).startswith("broken")]
        rows = [[int(one.split()[-1]), place % 100] for place, one in enumerate(paths)]
        progress(len(paths))
        return np.array(rows, dtype=np.float32), paths, wrong


def embedded(folder, photos, model, **options):
    """(embeddings, problems, files, photographs that were embedded) of `embed_in_parts`."""
    done = []
    options = {
        "max_pixels": 9,
        "of_model": "m",
        "folder": folder,
        "progress": done.append,
    } | options
    found = embed_in_parts(model, photos, [f"sha {one}" for one in photos], **options)
    assert sum(done) == len(photos)
    return *found, sum(map(len, model.asked))


def interrupted(folder, photos, parts):
    """Leave so many parts in a folder."""
    with pytest.raises(KeyboardInterrupt):
        embedded(folder, photos, Model(ends_after=parts))
    assert len(list(folder.iterdir())) == parts


PHOTOS = [f"photo {number}" for number in range(2000)]


def test_goes_on_where_it_ended(tmp_path):
    """Would catch an attempt that begins again, and embeddings that depend on where the first one ended."""
    interrupted(tmp_path / "parts", PHOTOS, 2)
    vectors, problems, files, count = embedded(tmp_path / "parts", PHOTOS, Model())
    assert problems == []
    assert count == 2000 - 2 * 600
    once, *_ = embedded(tmp_path / "other", PHOTOS, Model())
    np.testing.assert_array_equal(vectors, once)
    assert vectors[:, 0].tolist() == list(range(2000))
    forget(files)
    assert not (tmp_path / "parts").exists()


@pytest.mark.parametrize("change", ["photographs", "model", "pixels", "damaged", "other rows"])
def test_uses_nothing_that_does_not_fit(tmp_path, change):
    """Would catch embeddings of other photographs or another model, and a damaged file that is trusted."""
    interrupted(tmp_path, PHOTOS, 2)
    photos, options = list(PHOTOS), {}
    if change == "photographs":
        photos[0] = "other 7000"
    elif change == "model":
        options["of_model"] = "another"
    elif change == "pixels":
        options["max_pixels"] = 8
    else:
        first = tmp_path / f"{unfinished._key('m', 9, [f'sha {one}' for one in PHOTOS[:600]])}.npz"
        assert first.exists()
        if change == "damaged":
            first.write_bytes(first.read_bytes()[:1000])
        else:
            np.savez(first, embeddings=np.zeros((3, 2), dtype=np.float32))
    vectors, _, _, count = embedded(tmp_path, photos, Model(), **options)
    assert count == (2000 if options else 1400)
    assert vectors[0, 0] == (7000 if change == "photographs" else 0)


def test_short_or_broken_or_unwritable(tmp_path, caplog):
    """Would catch files for a handful of photographs, a part with a broken one that is kept, and a disk that
    stops the enrolment."""
    *_, count = embedded(tmp_path / "short", PHOTOS[:600], Model())
    assert count == 600
    assert not (tmp_path / "short").exists()
    photos = [*PHOTOS[:700], "broken 700"]
    _, problems, files, _ = embedded(tmp_path / "broken", photos, Model())
    assert problems == ["broken 700: broken"]
    assert [file.exists() for file in files] == [True, False]
    (tmp_path / "a file").write_text("")
    vectors, *_ = embedded(tmp_path / "a file", PHOTOS, Model())
    assert len(vectors) == 2000
    assert "would begin again" in caplog.text


def test_old_parts_are_removed(tmp_path, monkeypatch):
    """Would catch parts that stay for ever, and some of today that go."""
    interrupted(tmp_path, PHOTOS, 2)
    others = [f"photo {number}" for number in range(5000, 6500)]
    embedded(tmp_path, others, Model())
    assert len(list(tmp_path.iterdir())) == 5
    monkeypatch.setattr(unfinished, "FORGOTTEN", -1)
    embedded(tmp_path, others, Model())
    assert len(list(tmp_path.iterdir())) == 3


def test_enrol_goes_on(tmp_path, monkeypatch):
    """Would catch a program that loses what it had embedded, or leaves it behind afterwards."""
    run = make_run(tmp_path / "results")
    photos = [str(photo) for class_id in (4, 5) for photo in photographs_of(run, class_id)]
    monkeypatch.setattr(unfinished, "PART", 3)
    monkeypatch.setattr(TrainedModel, "at_a_time", 3)
    whole = copy_of(run, tmp_path / "whole")

    def enrol(run):
        return run_program(ENROL, "--run", run, "--name", "new", *photos)[0]

    assert not enrol(whole)
    embed, asked = TrainedModel.embed, []

    def once_broken(self, paths, **options):
        asked.append(len(paths))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return embed(self, paths, **options)

    monkeypatch.setattr(TrainedModel, "embed", once_broken)
    with contextlib.suppress(KeyboardInterrupt):
        assert enrol(run)
    assert not (run / "index_enrolled").exists()
    assert len(list((run / "enrolling").iterdir())) == 2
    assert not enrol(run)
    assert asked == [3, 3, 3, 3, 3]
    assert not (run / "enrolling").exists()
    both = [read_gallery(one / "index_enrolled", one / "model.pt") for one in (run, whole)]
    np.testing.assert_array_equal(both[0].embeddings, both[1].embeddings)
    assert both[0].digests == both[1].digests
