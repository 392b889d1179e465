"""An SQLite file is what its name says, whatever the name."""

import contextlib
import threading

import numpy as np
import pytest
from helpers import unit
from test_contract import put
from test_gallery import Study

from dmlstudy.use.gallery import enrol
from dmlstudy.use.stores.places import open_store


@pytest.mark.parametrize("name", [":memory:", "file:x.db?mode=memory", "a'b\"c.db", "-x", "mütze"])
def test_odd_names_are_files(tmp_path, monkeypatch, name):
    """Would catch an enrolment that is told and lost: SQLite takes some names for no file."""
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path)
    store = put(f"sqlite:{name}", tmp_path, study.gallery())
    assert str(store) == name
    assert (tmp_path / name).is_file()
    assert len(open_store(f"sqlite:{name}", tmp_path).read().table) == 20


def test_two_names_of_one_file_lose_nothing(tmp_path):
    """Would catch two programs that overwrite each other's classes because one names the file by a link."""
    study = Study(tmp_path)
    put(f"sqlite:{tmp_path / 'own'}", tmp_path, study.gallery())
    (tmp_path / "link").symlink_to(tmp_path / "own")
    together = threading.Barrier(2)

    def work(name):
        store = open_store(f"sqlite:{tmp_path / name}", tmp_path)
        photo = unit(np.random.default_rng(len(name)), 1, 8)
        with store.changing():
            gallery = store.read()
            # Nobody else comes here meanwhile.
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(0.5)
            store.write(enrol(gallery, name, photo, [f"/{name}"]))

    threads = [threading.Thread(target=work, args=[name]) for name in ("own", "link")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = open_store(f"sqlite:{tmp_path / 'own'}", tmp_path).read()
    assert {"own", "link"} <= set(found.table["class_name"])
    assert (tmp_path / "link").is_symlink()
