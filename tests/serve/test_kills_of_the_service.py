"""A service that is killed at any moment loses no photograph that it acknowledged, and leaves no half class."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from tiny_service import changed, copy_of, photographs_of, served

from dmlstudy.use.index_files import exclusive_access, read_gallery

MOMENTS = {
    "never": True,
    "vectors are being written": False,
    "before the exchange": False,
    "between two renames": False,
    "after the exchange": True,
    "before the answer": True,
}


@pytest.fixture(scope="module")
def with_a_class(made, tmp_path_factory):
    """A run with a class that was enrolled before."""
    run = copy_of(made, tmp_path_factory.mktemp("killed") / "results")
    changed(run, "never", "first", photographs_of(run, 4)[:3])
    return run


@pytest.mark.parametrize("moment", [one for one in MOMENTS if one != "never"])
def test_an_enrolment_is_there_whole_or_not_at_all(with_a_class, tmp_path, moment):
    """Would catch an index that is missing, or of two states, after a kill: the classes before it are there,
    the new one has all of its photographs or none, and the next change works."""
    run = copy_of(with_a_class, tmp_path / "results")
    before = read_gallery(run / "index_enrolled", run / "model.pt")
    changed(run, moment, "second", photographs_of(run, 5)[:2])
    # Another program that changes the index puts it back.
    with exclusive_access(run / "index_enrolled"):
        after = read_gallery(run / "index_enrolled", run / "model.pt")
    counts = after.table["class_name"].value_counts()
    found = {name: count for name, count in counts.items() if "class" not in name}
    assert found == {"first": 3} | ({"second": 2} if MOMENTS[moment] else {})
    np.testing.assert_array_equal(after.embeddings[: len(before.embeddings)], before.embeddings)
    for path in after.table["path"][len(before.table) :]:
        assert Path(path).is_file()
    changed(run, "never", "third", photographs_of(run, 5)[3:5])
    left = [path.name for path in run.iterdir() if path.name.startswith(".")]
    assert left == [".index_enrolled.lock"]


def test_requests_of_killed_services_are_removed(serve, run):
    """Would catch photographs of requests that stay for ever after a kill, also where every start has the same
    process id, as in a container; and those of a service that runs, removed."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    files = run / "index_enrolled_files"
    here = socket.gethostname().partition(".")[0]
    for process in (ended.pid, os.getpid(), 1):
        folder = files / f".incoming.{here}-{process}.tmp" / "a request"
        folder.mkdir(parents=True)
        (folder / "0000").touch()
    serve()
    assert [path.parent.parent.name for path in files.glob(".incoming.*/*/*")] == [
        f".incoming.{here}-1.tmp"
    ]


def test_killed_service_has_what_it_acknowledged(serve, run):
    """Would catch an answer before the photographs are stored, by a kill while clients enrol; and answers
    that another start gives differently."""
    photos = [photo for class_id in (4, 5) for photo in photographs_of(run, class_id)]
    acknowledged = []
    with served(run) as service:
        first = service.enrol("before", photos[:1])
        assert first.status_code == 201
        answers = service.name(photos[:1])

        def keep_enrolling():
            for number, pair in enumerate(zip(photos[1::2], photos[2::2], strict=False)):
                try:
                    if service.enrol(f"pair {number}", list(pair)).status_code == 201:
                        acknowledged.append(f"pair {number}")
                except httpx.HTTPError:
                    return

        client = threading.Thread(target=keep_enrolling)
        client.start()
        while len(acknowledged) < 2:
            time.sleep(0.005)
        time.sleep(0.02)
        service.process.kill()
        client.join()
    with exclusive_access(run / "index_enrolled"):
        gallery = read_gallery(run / "index_enrolled", run / "model.pt")
    counts = gallery.table["class_name"].value_counts().to_dict()
    assert {name: counts.get(name) for name in acknowledged} == dict.fromkeys(acknowledged, 2)
    assert {count for name, count in counts.items() if name.startswith("pair")} == {2}
    again = serve()
    first = again.name(photos)
    assert first[0]["class_name"] == answers[0]["class_name"] == "before"
    # Embedded with others.
    assert first[0]["similarity"] == pytest.approx(answers[0]["similarity"], abs=1e-6)
    assert {name: again.classes()[name] for name in acknowledged} == dict.fromkeys(acknowledged, 2)
    assert len(list((run / "index_enrolled_files").glob(".incoming.*"))) == 1
    again.stop()
    assert serve().name(photos) == first


def test_rows_that_a_lost_power_left_by_half(serve, run):
    """Would catch a service that never starts again because one doubtful answer cannot be read."""
    first = serve()
    (answer,) = first.name(photographs_of(run, 4)[:1])
    first.stop()
    folder = run / "index_enrolled_files" / "doubts"
    for name, content in (
        ("a", b""),
        ("b", b'{"time": 1'),
        ("c", b"[]"),
        ("d", b"{}"),
        ("e", b"\xff"),
    ):
        (folder / f"{name}.json").write_bytes(content)
        (folder / f"{name}.img").write_bytes(b"x")
    (folder / "lost+found").mkdir()
    doubts = serve().get("/api/doubts").json()["doubts"]
    assert [one["doubt_id"] for one in doubts] == [answer["doubt_id"]]
    assert sorted(path.suffix for path in folder.iterdir() if path.is_file()) == [".img", ".json"]
