"""The service answers as name_photos.py does, and learns classes as enrol.py does."""

import contextlib
import io
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import unit
from tiny_service import SCRIPTS, photographs_of, sent

from dmlstudy.use.gallery import Gallery, classify
from dmlstudy.use.service.nearby import Nearby


def program(name, *arguments):
    """Run a program in this process."""
    before, sys.argv = sys.argv, [name, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    finally:
        sys.argv = before


def check_against_program(service, run, photos, folder):
    """Answers over HTTP equal the table of name_photos.py, which has six decimals."""
    program("name_photos.py", "--run", run, "--csv", folder / "answers.csv", *photos)
    table = pd.read_csv(folder / "answers.csv", keep_default_na=False)
    answers = service.name(photos)
    assert [one["photograph"] for one in answers] == [photo.name for photo in photos]
    for answer, row in zip(answers, table.to_dict("records"), strict=True):
        assert answer["known"] == bool(row["known"])
        assert answer["class_name"] == (row["nearest_class_name"] if row["known"] else None)
        nearest = answer["nearest"][0]
        assert nearest["class_name"] == row["nearest_class_name"]
        assert nearest["image_id"] == row["nearest_image_id"]
        assert nearest["path"] == row["nearest_path"]
        assert nearest["similarity"] == answer["similarity"]
        for key in ("similarity", "distance", "probability"):
            assert round(answer[key], 6) == row[key]
        vote = answer["vote"]
        assert (vote["class_name"], vote["votes"]) == (row["vote_class_name"], row["votes"])
    return answers


def test_answers_are_those_of_the_program(serve, run, tmp_path):
    """Would catch another decoder, threshold, search or vote than name_photos.py has; and a class enrolled
    over HTTP that the programs do not see, or the other way round."""
    service = serve()
    photos = [photo for class_id in range(6) for photo in photographs_of(run, class_id)]
    before = check_against_program(service, run, photos, tmp_path)
    assert {one["known"] for one in before} == {True, False}
    assert service.enrol("new", photographs_of(run, 4)).status_code == 201
    check_against_program(service, run, photos, tmp_path)
    program("enrol.py", "--run", run, "--name", "other", *photographs_of(run, 5))
    after = check_against_program(service, run, photos, tmp_path)
    assert [one["class_name"] for one in after[24:]] == ["new"] * 6 + ["other"] * 6
    known = {one["class_name"]: one for one in service.get("/api/classes").json()["classes"]}
    assert known["other"]["source"] == "enrol.py"
    assert known["new"]["source"] == "6 photographs over HTTP"
    assert known["class 0"]["source"] == "the study"


def test_requests_that_wait_are_answered_as_alone(serve, run):
    """Would catch answers that go to another request, and a batch that changes its members."""
    service = serve()
    photos = [photo for class_id in range(6) for photo in photographs_of(run, class_id)]
    alone = [service.name([photo])[0] for photo in photos]
    sizes = []
    embed = service.desk.engine.model.embed_crops
    service.desk.engine.model.embed_crops = lambda crops: sizes.append(len(crops)) or embed(crops)
    futures = [service.desk.engine.submit([photo])[0] for photo in photos]
    vectors = np.stack([future.result(60)[0] for future in futures])
    assert sum(sizes) == len(photos)
    assert max(sizes) > 1
    table = pd.DataFrame(service.desk.shelf.nearby.classify(vectors, 10, 1)[0])
    assert table["nearest_image_id"].tolist() == [one["nearest"][0]["image_id"] for one in alone]
    np.testing.assert_allclose(table["similarity"], [one["similarity"] for one in alone], atol=1e-6)


def drawn(rng, images, classes, dim, copies):
    """A gallery; ``copies`` of its images have the same vector."""
    vectors = unit(rng, images, dim)
    vectors[rng.permutation(images)[:copies]] = vectors[0]
    class_ids = rng.integers(0, classes, images)
    table = pd.DataFrame(
        {
            "row": range(images),
            "image_id": rng.permutation(images),
            "class_id": class_ids,
            "class_name": [f"class {one}" for one in class_ids],
            "path": [f"{index}.jpg" for index in range(images)],
        }
    )
    metadata = {
        "class_names": [f"class {index}" for index in range(classes)],
        "threshold": {"similarity": 0.5},
        "calibration": {"slope": 3.0, "intercept": -1.0},
        "embedding_dim": dim,
        "images": images,
    }
    return Gallery(vectors, table, metadata)


@pytest.mark.parametrize(
    ("images", "classes", "copies"),
    [(400, 20, 0), (400, 20, 300), (400, 2, 390), (3, 2, 0), (50, 1, 10), (1, 1, 0)],
)
def test_searching_a_part_answers_as_searching_the_whole(images, classes, copies):
    """Would catch a nearest image, a tie, a vote or a second class that is not among the candidates."""
    rng = np.random.default_rng(images + copies)
    gallery = drawn(rng, images, classes, 8, copies)
    queries = np.concatenate([unit(rng, 20, 8), gallery.embeddings[:5]])
    for neighbours in (1, 10):
        found, nearest = Nearby(gallery, 1).classify(queries, neighbours, 3)
        expected = classify(gallery, queries, neighbours)
        pd.testing.assert_frame_equal(pd.DataFrame(found), expected[list(found[0])])
        assert [near[0][0]["image_id"] for near in nearest] == expected["nearest_image_id"].tolist()
        assert len(nearest[0]) == min(3, images)


def test_photographs_that_cannot_be_read_are_told_and_the_others_answered(serve, run, tmp_path):
    """Would catch one broken file that costs all answers, answers that move up by one, and a path of this
    machine in an answer."""
    service = serve()
    good = photographs_of(run, 0)[:3]
    (tmp_path / "broken.png").write_bytes(good[0].read_bytes()[:500])
    answers = service.name([good[0], tmp_path / "broken.png", *good[1:]])
    assert ["problem" in one and one["problem"] is not None for one in answers] == [
        False,
        True,
        False,
        False,
    ]
    assert answers[1]["problem"].startswith("broken.png: ")
    assert str(run) not in answers[1]["problem"]
    alone = service.name(good)
    for one, other in zip([answers[0], *answers[2:]], alone, strict=True):
        assert one["nearest"][0]["image_id"] == other["nearest"][0]["image_id"]
    refused = service.client.post("/api/name", files=sent([tmp_path / "broken.png"]))
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith("broken.png: ")
