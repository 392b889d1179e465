"""Photographs of removed classes: kept while the removal can be undone, and deleted for good when somebody asks."""

import shutil

import pytest
from helpers import run_program
from tiny_service import SCRIPTS, InThread, changed, copy_of, photographs_of, stored

from dmlstudy.use.index_files import exclusive_access, read_gallery
from dmlstudy.use.stores.faiss_folder import FaissFolder
from dmlstudy.use.stores.store import Unreachable

NONE = {"classes": [], "photographs": 0}


def files_of(run, kind="photographs"):
    """Names of the files that the service keeps."""
    return {path.name for path in (run / "index_enrolled_files" / kind).iterdir()}


def named(run):
    """Names of the kept photographs that the index names, and the names of its classes."""
    with exclusive_access(run / "index_enrolled"):
        table = read_gallery(run / "index_enrolled", run / "model.pt").table
    own = [path for path in table["path"] if "index_enrolled_files" in path]
    return {path.rpartition("/")[2] for path in own}, set(table["class_name"])


def class_id_of(service, name):
    rows = service.get("/api/classes").json()["classes"]
    return next(one["class_id"] for one in rows if one["class_name"] == name)


def remove(service, name):
    answer = service.client.delete(f"/api/classes/{class_id_of(service, name)}")
    assert answer.status_code == 200


def test_they_are_kept_for_the_undo_and_deleted_when_asked(serve, run):
    """Would catch photographs or vectors of a removed class that stay after somebody asked for their end, those of
    another class gone with them, and an undo of what is gone."""
    service = serve()
    assert service.enrol("new", photographs_of(run, 4)).status_code == 201
    assert service.enrol("other", photographs_of(run, 5)[:2]).status_code == 201
    assert service.get("/api/removed").json() == NONE
    # Nothing is removed, nothing is deleted.
    assert service.client.delete("/api/removed").json() == NONE
    remove(service, "new")
    remove(service, "class 0")
    kept = {"classes": ["new", "class 0"], "photographs": 6}
    assert service.get("/api/removed").json() == kept
    service.stop()
    service = serve()
    assert service.get("/api/removed").json() == kept
    assert len(files_of(run)) == 8
    renamed = service.client.patch(
        f"/api/classes/{class_id_of(service, 'other')}", json={"class_name": "another"}
    )
    assert renamed.status_code == 200
    assert service.client.delete("/api/removed").json() == kept
    assert service.get("/api/removed").json() == NONE
    assert files_of(run) == named(run)[0]
    assert len(files_of(run)) == 2
    assert files_of(run, "removed") == set()
    # Only what came after the removals can be undone.
    assert service.client.post("/api/undo").json()["what"] == "renamed"
    assert service.client.post("/api/undo").status_code == 404
    assert {one["undoable"] for one in service.get("/api/history").json()["changes"]} == {False}
    assert service.enrol("new", photographs_of(run, 4)).status_code == 201


def test_program_deletes_those_of_its_class_only(serve, run):
    """Would catch photographs that stay for ever because a program removed their class, and a removal on the page
    that can no longer be undone because of it."""
    service = serve()
    assert service.enrol("new", photographs_of(run, 4)).status_code == 201
    remove(service, "new")
    assert service.enrol("other", photographs_of(run, 5)[:2]).status_code == 201
    # A photograph of the removed class, which an undo brings back.
    added = service.enrol("other", photographs_of(run, 4)[:1], params={"existing": True})
    assert added.status_code == 201
    program = SCRIPTS / "remove_class.py"
    code, out, errors = run_program(program, "--run", run, "--name", "other")
    assert code == 0, errors
    assert "2 files that the service kept are deleted" in out
    assert len(files_of(run)) == 6
    assert service.get("/api/removed").json() == {"classes": ["new"], "photographs": 6}
    undone = [service.client.post("/api/undo").json()["what"] for _ in range(3)]
    assert undone == ["added", "enrolled", "removed"]
    assert service.classes()["new"] == 6
    assert files_of(run) == named(run)[0]
    # Where no service was ever started, nothing is made.
    shutil.rmtree(run / "index_enrolled")
    shutil.rmtree(run / "index_enrolled_files")
    code, out, errors = run_program(program, "--run", run, "--name", "class 0")
    assert code == 0, errors
    assert "deleted" not in out
    assert not (run / "index_enrolled_files").exists()


def test_removal_that_fails_keeps_nothing_for_ever(serve, run, monkeypatch):
    """Would catch what a failed change set aside: it would hold the photographs of its class for ever."""
    service = serve()
    assert service.enrol("new", photographs_of(run, 4)[:3]).status_code == 201

    def away(*arguments):
        raise Unreachable("a test")

    with monkeypatch.context() as patch:
        patch.setattr(FaissFolder, "write", away)
        assert service.client.delete("/api/classes/6").status_code == 503
        assert service.enrol("other", photographs_of(run, 5)).status_code == 503
        assert service.client.post("/api/undo").status_code == 503
    assert files_of(run) == named(run)[0]
    assert len(files_of(run)) == 3
    remove(service, "new")
    assert service.client.delete("/api/removed").json() == {"classes": ["new"], "photographs": 3}
    assert files_of(run) == set()
    assert files_of(run, "removed") == set()


@pytest.fixture(scope="module")
def with_two_classes(made, tmp_path_factory):
    """A run with two classes that the service enrolled."""
    run = copy_of(made, tmp_path_factory.mktemp("removed") / "results")
    changed(run, "never", "first", photographs_of(run, 4)[:3])
    changed(run, "never", "second", photographs_of(run, 5)[:2])
    return run


@pytest.mark.parametrize(
    ("moment", "change", "photographs", "left"),
    [
        ("photographs are kept", "third", 2, 5),
        ("before the index is written", "third", 2, 5),
        ("before the index is written", "second", 0, 5),
        ("before the answer", "second", 0, 5),
        ("before the index is written", "undo", 0, 5),
        ("before the answer", "undo", 0, 3),
        ("photographs are deleted", "undo", 0, 3),
    ],
)
def test_kills_leave_nothing_behind(with_two_classes, tmp_path, moment, change, photographs, left):
    """Would catch photographs of nothing that a kill leaves for ever: of an enrolment that did not happen, of a
    removal that did not happen, or of an enrolment that was undone; and photographs of a class that are gone."""
    run = copy_of(with_two_classes, tmp_path / "results")
    changed(run, moment, change, photographs_of(run, 5)[3 : 3 + photographs])
    service = InThread(run)
    try:
        names, classes = named(run)
        removed = service.get("/api/removed").json()
        assert names <= files_of(run)
        assert len(files_of(run)) == len(names) + removed["photographs"] == left
        # Only a removal that happened keeps anything.
        happened = moment == "before the answer" and change == "second"
        assert removed == ({"classes": ["second"], "photographs": 2} if happened else NONE)
        assert ("second" in classes) == (left == 5 and not happened)
        kept = {name.partition(".")[2] for name in files_of(run, "removed")}
        assert kept == ({"npy", "json", "csv"} if happened else set())
        assert service.client.delete("/api/removed").json() == removed
        assert files_of(run) == names
        assert files_of(run, "removed") == set()
    finally:
        service.stop()


def test_moved_run_loses_no_photograph(made, serve, run, tmp_path):
    """Would catch photographs that are taken for those of no class because their folder has another path now, or
    because the index is not there for a while; and photographs that a removal in the new place does not delete."""
    service = serve()
    assert service.enrol("new", photographs_of(run, 4)[:3]).status_code == 201
    service.stop()
    results = run.parents[3]
    results.rename(tmp_path / "moved")
    moved = tmp_path / "moved" / run.relative_to(results)
    (moved / "index_enrolled").rename(moved / "elsewhere")
    changed(moved, "never", "second", photographs_of(moved, 5)[:2])
    shutil.rmtree(moved / "index_enrolled")
    (moved / "elsewhere").rename(moved / "index_enrolled")
    # The service of `run` starts where its folder was moved to.
    results.symlink_to(tmp_path / "moved")
    service = serve()
    assert len(files_of(moved)) == 5
    # Those of the index that is gone are told, and only deleted when asked.
    assert service.get("/api/removed").json() == {"classes": [], "photographs": 2}
    remove(service, "new")
    assert service.client.delete("/api/removed").json() == {"classes": ["new"], "photographs": 5}
    assert files_of(moved) == set()
    assert stored(moved)["history"][-1]["what"] == "removed"


def test_no_photograph_comes_back_beside_itself(serve, run):
    """Would catch a photograph that is in the index twice: its removal is undone after enrol.py enrolled it."""
    service, photos = serve(), photographs_of(run, 4)
    assert service.enrol("A", photos[:2]).status_code == 201
    remove(service, "A")
    run_program(SCRIPTS / "enrol.py", "--run", run, "--name", "B", photos[0])
    before = service.classes()
    answer = service.client.post("/api/undo")
    assert answer.status_code == 409
    assert "1 of its photographs are now enrolled as 'B'" in answer.json()["detail"]
    assert service.classes() == before
    assert files_of(run)
    assert files_of(run, "removed")
    remove(service, "B")
    for _ in range(2):
        # B comes back first; then A cannot.
        answer = service.client.post("/api/undo")
    assert answer.status_code == 409
    remove(service, "B")
    assert service.client.delete("/api/removed").json()["classes"] == ["A", "B"]
