"""The programs and the service with each store: the same answers, the same changes."""

import numpy as np
import pandas as pd
import pytest
from store_kinds import KINDS, new_place
from test_options import program
from tiny_service import InThread, copy_of, make_run, photographs_of

from dmlstudy.data.dataset import make_class_set
from dmlstudy.use.index_files import MADE, read_gallery
from dmlstudy.use.stores.places import open_store


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a tiny run. Tests that change anything take a copy."""
    return make_run(tmp_path_factory.mktemp("stores") / "results")


@pytest.fixture
def run(made, tmp_path):
    return copy_of(made, tmp_path / "results")


def call(name, *arguments):
    code, errors = program(name, *arguments)
    assert code in (0, None), errors
    return errors


def test_programs_give_the_same_answers_with_each_store(run, tmp_path, request):
    """Would catch a program that takes no notice of the store, or answers differently with one."""
    photos = [photo for class_id in range(6) for photo in photographs_of(run, class_id)[:3]]
    tables = {}
    for kind in ("none", *KINDS):
        place = [] if kind == "none" else ["--store", new_place(kind, tmp_path, request)]
        usual = ["--run", run, *place]
        call("enrol.py", *photographs_of(run, 4)[2:], *usual, "--name", "four")
        call("enrol.py", *photographs_of(run, 5)[2:], *usual, "--name", "five")
        call("remove_class.py", *usual, "--name", "four")
        for only in (["class 0", "five"], None):
            table = tmp_path / f"{kind} {only}.csv"
            more = [] if only is None else ["--only", *only]
            call("name_photos.py", *photos, *usual, "--csv", table, *more)
            tables[kind, str(only)] = answers = pd.read_csv(table)
            assert set(answers["nearest_class_name"]) <= set(only or answers["nearest_class_name"])
            assert "four" not in set(answers["vote_class_name"])
            pd.testing.assert_frame_equal(answers, tables["none", str(only)])
        assert answers["nearest_class_name"][photos.index(photographs_of(run, 5)[2])] == "five"
        if kind != "none":
            code, errors = program("name_photos.py", photos[0], *usual, "--only", "six")
            assert code == 1
            assert "'six' is not in the index" in errors


def test_index_of_the_run_is_made_in_each_store(made, place, tmp_path):
    """Would catch index_gallery.py that writes a folder in any case, or other vectors."""
    wanted = read_gallery(made / MADE[0], made / "model.pt")
    run = copy_of(made, tmp_path / "results")
    ids = wanted.table["image_id"].to_numpy()
    np.savez(tmp_path / "e.npz", gallery_embeddings=wanted.embeddings, gallery_image_ids=ids)
    names = wanted.metadata["class_names"]
    rows = [(f"{one}_{image}.png", one, names[one]) for one in range(6) for image in range(6)]
    manifest = pd.DataFrame(rows, columns=["path", "class_id", "class_name"])
    manifest.rename_axis("image_id").to_csv(tmp_path / "m.csv")
    pd.DataFrame({"image_id": manifest.index, "part": "train"}).to_csv(
        tmp_path / "s.csv", index=False
    )
    seen = make_class_set(6, "limited_classes", unseen=2)
    seen.to_csv(tmp_path / "c.csv", index=False)
    call(
        "index_gallery.py",
        *("--embeddings", tmp_path / "e.npz", "--model", run / "model.pt"),
        *("--manifest", tmp_path / "m.csv", "--split", tmp_path / "s.csv"),
        *("--class-set", tmp_path / "c.csv", "--seen-only", "--threshold", "own_images"),
        *("--store", place),
    )
    found = open_store(place, run).read()
    np.testing.assert_array_equal(found.embeddings, wanted.embeddings)
    assert found.table["path"].tolist() == wanted.table["path"].tolist()


def test_service_changes_each_store(run, place):
    """Would catch a change of the service that is lost in a store, an undo that is not whole, and two services that
    do not see each other's changes."""
    one, other = InThread(run, store=place), InThread(run, store=place)
    plain = InThread(run)
    try:
        queries = [photo for class_id in (0, 4) for photo in photographs_of(run, class_id)]
        first = one.classes()
        for service in (one, plain):
            assert service.enrol("four", photographs_of(run, 4)[:3]).status_code == 201
        assert other.classes() == first | {"four": 3} == plain.classes()
        assert one.name(queries) == other.name(queries)
        for mine, own in zip(one.name(queries), plain.name(queries), strict=True):
            assert mine["class_name"] == own["class_name"]
            assert [near["image_id"] for near in mine["nearest"]] == [
                near["image_id"] for near in own["nearest"]
            ]
        enrolled = {
            row["class_name"]: row["class_id"]
            for row in other.get("/api/classes").json()["classes"]
        }
        path = f"/api/classes/{enrolled['four']}"
        assert other.client.patch(path, json={"class_name": "renamed"}).status_code == 200
        assert one.classes() == first | {"renamed": 3}
        assert one.client.delete(path).status_code == 200
        assert other.classes() == first
        for left in ({"renamed": 3}, {"four": 3}, {}):
            assert other.client.post("/api/undo").status_code == 200
            assert one.classes() == first | left
        assert one.enrol("four", photographs_of(run, 4)[:1]).status_code == 201
        assert one.enrol("again", photographs_of(run, 4)[:1]).status_code == 409
    finally:
        for service in (one, other, plain):
            service.stop()
    assert classes_of(run, place) == first | {"four": 1}


def classes_of(run, place):
    """What another start finds."""
    service = InThread(run, store=place)
    try:
        return service.classes()
    finally:
        service.stop()


def test_service_answers_without_its_database(run, server, request, tmp_path):
    """Would catch a service that ends with its database, reports a change that is not there, or stays without it."""
    service = InThread(run, store=new_place("postgresql", tmp_path, request))
    try:
        assert service.enrol("four", photographs_of(run, 4)[:3]).status_code == 201
        photos = photographs_of(run, 4)[:1]
        before = service.name(photos)
        server.crash()
        try:
            assert service.name(photos) == before
            refused = service.enrol("five", photographs_of(run, 5)[:3])
        finally:
            server.start_again()
        assert refused.status_code == 503
        assert "cannot be reached" in refused.json()["detail"]
        assert int(refused.headers["retry-after"]) > 0
        assert "five" not in service.classes()
        assert service.enrol("five", photographs_of(run, 5)[:3]).status_code == 201
        assert service.classes()["five"] == 3
    finally:
        service.stop()
