"""Classes are added, renamed, removed, and all of it undone; doubtful answers are confirmed or corrected."""

import numpy as np
import pytest
from tiny_service import photographs_of, stored

from dmlstudy.use.gallery import classify, remove_class
from dmlstudy.use.index_files import read_gallery


def gallery_of(run):
    return read_gallery(run / "index_enrolled", run / "model.pt")


def answers_of(gallery):
    """What an index answers to its own embeddings."""
    order = np.argsort(gallery.table["image_id"])
    table = classify(gallery, gallery.embeddings[order], 3)
    return table.drop(columns=["nearest_path"])


def test_changes_and_their_undoing(serve, run):
    """Would catch a change that touches another class, an undo that does not bring everything back, and
    photographs that stay behind or are gone."""
    service = serve()
    post, kept = service.client.post, run / "index_enrolled_files" / "photographs"
    assert service.enrol("new", photographs_of(run, 4)).json()["what"] == "enrolled"
    first = gallery_of(run)
    assert len(list(kept.iterdir())) == 6
    # A second time, under any name: nothing changes.
    for name, status in (("new", 409), ("NEW", 409)):
        refused = service.enrol(name, photographs_of(run, 4))
        assert refused.status_code == status
    assert refused.json()["detail"].startswith(
        "4_0.png: this photograph is already in the index, as 'new': it equals "
    )
    assert service.enrol("x", photographs_of(run, 5), params={"existing": True}).status_code == 404
    twice = [photographs_of(run, 5)[0]] * 2
    refused = service.enrol("x", twice)
    assert refused.status_code == 409
    assert "5_0.png: this photograph was given twice: it equals 5_0" in refused.json()["detail"]
    assert gallery_of(run).table.equals(first.table)
    assert len(list(kept.iterdir())) == 6
    added = service.enrol("new", photographs_of(run, 5)[:2], params={"existing": True}).json()
    assert added["what"] == "added"
    assert service.classes()["new"] == 8
    class_id = added["class_id"]
    renamed = service.client.patch(f"/api/classes/{class_id}", json={"class_name": "Blue Tit"})
    assert renamed.json()["before"] == "new"
    taken = service.client.patch(f"/api/classes/{class_id}", json={"class_name": "class 1"})
    assert taken.status_code == 409
    assert {one["class_name"] for one in service.name(photographs_of(run, 4))} == {"Blue Tit"}
    before = gallery_of(run)
    assert service.client.delete(f"/api/classes/{class_id}").json()["photographs"] == 8
    assert service.client.delete("/api/classes/0").status_code == 200
    assert service.client.delete("/api/classes/0").status_code == 404
    assert service.classes().keys() == {"class 1", "class 2", "class 3"}
    assert post("/api/undo").json()["class_id"] == 0
    assert post("/api/undo").json()["class_name"] == "Blue Tit"
    after = gallery_of(run)
    columns = ["image_id", "class_id", "class_name", "path"]
    by_id = [one.table.sort_values("image_id")[columns].to_numpy() for one in (before, after)]
    assert (by_id[0] == by_id[1]).all()
    assert after.digests == before.digests
    assert answers_of(after).equals(answers_of(before))
    assert {one["class_name"] for one in service.name(photographs_of(run, 4))} == {"Blue Tit"}
    undone = [post("/api/undo").json()["what"] for _ in range(3)]
    assert undone == ["renamed", "added", "enrolled"]
    assert post("/api/undo").status_code == 404
    assert service.classes().keys() == {f"class {index}" for index in range(4)}
    assert list(kept.iterdir()) == []
    assert stored(run)["history"] == []


def test_undoing_the_name_of_a_class_that_is_gone(serve, run):
    """Would catch a name that comes back without its class: the next class of that name would get the old id."""
    service = serve()
    old = service.enrol("new", photographs_of(run, 4)).json()["class_id"]
    service.client.patch(f"/api/classes/{old}", json={"class_name": "Blue Tit"})
    # As remove_class.py does.
    store = service.desk.shelf.store
    with store.changing():
        store.write(remove_class(store.read(), "Blue Tit"))
    assert service.client.post("/api/undo").json()["what"] == "renamed"
    assert "new" not in stored(run)["class_names"]
    assert service.enrol("new", photographs_of(run, 5)).json()["class_id"] == old + 1


def test_old_changes_are_kept_in_the_history_but_not_undone(serve, run, monkeypatch):
    """Would catch an undo of what was thrown away, and removed photographs that are kept for ever."""
    monkeypatch.setattr("dmlstudy.use.service.shelf.UNDOABLE", 2)
    service = serve()
    class_id = service.enrol("new", photographs_of(run, 4)).json()["class_id"]
    assert service.client.delete(f"/api/classes/{class_id}").status_code == 200
    kept = run / "index_enrolled_files"
    assert len(list((kept / "photographs").iterdir())) == 6
    for index in range(2):
        service.client.patch("/api/classes/0", json={"class_name": f"name {index}"})
    assert list((kept / "photographs").iterdir()) == []
    assert list((kept / "removed").iterdir()) == []
    statuses = [service.client.post("/api/undo").status_code for _ in range(3)]
    assert statuses == [200, 200, 404]
    history = service.get("/api/history").json()["changes"]
    assert [one["what"] for one in history] == ["enrolled", "removed"]


def test_a_photograph_without_a_digest_is_not_enrolled_twice(serve, run):
    """Would catch a copy in an index that an earlier version wrote, which stores no digests."""
    service = serve()
    assert service.enrol("new", photographs_of(run, 4)[:2]).status_code == 201
    service.stop()
    (run / "index_enrolled" / "digests.csv").unlink()
    refused = serve().enrol("x", photographs_of(run, 4)[1:2])
    assert refused.status_code == 409
    assert "4_1.png: this photograph is already in the index" in refused.json()["detail"]
    assert len(list((run / "index_enrolled_files" / "photographs").iterdir())) == 2


def test_a_class_with_a_broken_photograph_is_not_enrolled(serve, run, tmp_path):
    """Would catch half a class."""
    service = serve()
    (tmp_path / "broken.png").write_bytes(b"no image")
    refused = service.enrol("new", [*photographs_of(run, 4), tmp_path / "broken.png"])
    assert refused.status_code == 422
    assert "nothing was enrolled: broken.png" in refused.json()["detail"]
    assert "new" not in service.classes()
    assert not (run / "index_enrolled").exists()
    assert list((run / "index_enrolled_files" / "photographs").iterdir()) == []


def test_doubtful_answers_are_settled(serve, run):
    """Would catch a doubtful answer that nobody sees, that stays on the list, or whose correction changes
    nothing; and a list that grows without end."""
    service = serve(doubts=3)
    service.name(photographs_of(run, 0))
    assert service.get("/api/doubts").json()["doubts"] == []
    service.name(photographs_of(run, 4)[:2], params={"keep": False})
    assert service.get("/api/doubts").json()["doubts"] == []
    for _ in range(2):
        service.name(photographs_of(run, 4)[:2])
    doubts = service.get("/api/doubts").json()["doubts"]
    assert [one["doubtful"] for one in doubts] == ["unknown", "unknown"]
    # The list has the names that classes have now, and none that is gone.
    near = doubts[0]["nearest"][0]
    service.client.patch(f"/api/classes/{near['class_id']}", json={"class_name": "renamed"})
    assert service.get("/api/doubts").json()["doubts"][0]["nearest"][0]["class_name"] == "renamed"
    service.client.delete(f"/api/classes/{near['class_id']}")
    left = service.get("/api/doubts").json()["doubts"][0]["nearest"]
    assert near["class_id"] not in [one["class_id"] for one in left]
    assert service.client.post("/api/undo").status_code == 200
    path = f"/api/doubts/{doubts[0]['doubt_id']}"
    assert service.get(f"{path}/photograph").headers["content-type"] == "image/jpeg"
    change = service.client.post(path, json={"class_name": "new"}).json()
    assert (change["what"], change["source"]) == ("enrolled", "a doubtful answer")
    assert service.client.post(path, json={"class_name": "new"}).status_code == 404
    again = service.name(
        [photo for photo in photographs_of(run, 4) if photo.name == doubts[0]["photograph"]]
    )
    assert again[0]["class_name"] == "new"
    assert again[0]["similarity"] == pytest.approx(1)
    assert service.client.delete(f"/api/doubts/{doubts[1]['doubt_id']}").status_code == 204
    assert service.get("/api/doubts").json()["doubts"] == []
    service.name(photographs_of(run, 5))
    assert len(service.get("/api/doubts").json()["doubts"]) == 3
    assert len(list((run / "index_enrolled_files" / "doubts").iterdir())) == 6
    service.stop()
    # Another start has the same list.
    assert len(serve().get("/api/doubts").json()["doubts"]) == 3
