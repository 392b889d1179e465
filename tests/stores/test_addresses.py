"""What --store takes and refuses, and that no password is told to anybody."""

import contextlib
import io
import runpy
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import unit
from lab_server import GUEST
from test_contract import check_equal, put
from test_gallery import Study

from dmlstudy.core.files import StudyError
from dmlstudy.use.gallery import enrol
from dmlstudy.use.stores.places import open_store
from dmlstudy.use.stores.postgresql import parsed
from dmlstudy.use.stores.store import Unreachable

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
SECRET = "s3cret-0f-the-lab"

ADDRESSES = {
    "postgresql://db.example.org/birds": (
        {"host": "db.example.org", "dbname": "birds"},
        "dml_index",
    ),
    "postgresql://a%40b@h:5433/birds#tits_2": (
        {"host": "h", "port": 5433, "user": "a@b", "dbname": "birds"},
        "tits_2",
    ),
    "postgresql://[::1]:1/d": ({"host": "::1", "port": 1, "dbname": "d"}, "dml_index"),
    "postgresql:///d?host=/run/pg&sslmode=require": (
        {"dbname": "d", "host": "/run/pg", "sslmode": "require"},
        "dml_index",
    ),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_address_is_read_as_libpq_reads_it(text):
    """Would catch another server, user or database than the address names."""
    assert parsed(text) == ADDRESSES[text]


WRONG = [
    "",
    "index",
    "faiss",
    "sqlite:",
    f"mysql://lab:{SECRET}@h/d",
    f"postgresql://lab:{SECRET}@h/d",
    f"postgresql://lab:{SECRET}/x@h/d",
    f"postgresql://lab:{SECRET}@@h/d",
    f"postgresql://:{SECRET}@h/d",
    f"postgresql://h:{SECRET}/d",
    f"postgresql://h/d?password={SECRET}",
    f"postgresql://h/d?sslpassword={SECRET}",
    f"postgresql://h/d?{SECRET}",
    f"postgresql://[{SECRET}/d",
    f"postgresql://@h/{SECRET}",
    f"postgresql://{SECRET}",
    f"postgresql://h/d#{SECRET}",
    f"postgres:lab:{SECRET}@h/d",
]


@pytest.mark.parametrize("program", ["name_photos.py", "enrol.py"])
@pytest.mark.parametrize("text", WRONG)
def test_wrong_value_is_refused_without_being_repeated(tmp_path, text, program):
    """Would catch a password in a message, a traceback or a log; and a value that is taken for another."""
    Study(tmp_path)
    arguments = ["photo.jpg", "--run", tmp_path, f"--store={text}", "--log", tmp_path / "p.log"]
    if program == "enrol.py":
        arguments += ["--name", "new"]
    told, before = io.StringIO(), sys.argv
    sys.argv = [program, *map(str, arguments)]
    try:
        with (
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(told),
            pytest.raises(SystemExit) as end,
        ):
            runpy.run_path(str(SCRIPTS / program), run_name="__main__")
    finally:
        sys.argv = before
    text = told.getvalue() + (tmp_path / "p.log").read_text()
    assert end.value.code == 1
    assert "error: --store: " in text
    assert "Traceback" not in text
    assert SECRET not in text


def test_two_places_are_refused(tmp_path):
    """Would catch an option that is silently left out."""
    Study(tmp_path)
    for program, option in (("name_photos.py", "--index"), ("remove_class.py", "--out")):
        arguments = ["--run", tmp_path, "--store", f"sqlite:{tmp_path / 's'}", option, "index"]
        arguments += ["photo.jpg"] if program == "name_photos.py" else ["--name", "NA"]
        before, sys.argv = sys.argv, [program, *map(str, arguments)]
        told = io.StringIO()
        try:
            with contextlib.redirect_stderr(told), pytest.raises(SystemExit):
                runpy.run_path(str(SCRIPTS / program), run_name="__main__")
        finally:
            sys.argv = before
        assert f"error: {option}, --store: give one of them" in told.getvalue()


def test_wrong_password_is_told_without_it(server, tmp_path, monkeypatch):
    """Would catch a traceback, or a message with the password of the environment."""
    Study(tmp_path)
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with pytest.raises(Unreachable, match="password authentication failed") as error:
        open_store(server.address("one"), tmp_path).check()
    assert SECRET not in str(error.value)
    assert str(error.value).startswith(server.address("one"))


def test_password_is_taken_from_pgpass(server, tmp_path, monkeypatch):
    """Would catch a client that reads only the variable."""
    Study(tmp_path)
    monkeypatch.delenv("PGPASSWORD")
    given = tmp_path / "pgpass"
    given.write_text(f"127.0.0.1:{server.port}:*:*:{server.password}\n")
    given.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(given))
    open_store(server.address("one"), tmp_path).check()


def test_database_that_ends_in_a_change_leaves_the_old_index(server, tmp_path):
    """Would catch a change by half after a crash of the server, a lock that stays, and a store that does not
    connect again."""
    gallery = Study(tmp_path).gallery()
    store = put(server.address("crashed"), tmp_path, gallery)
    more = enrol(gallery, "new", unit(np.random.default_rng(1), 3, 8), ["/1", "/2", "/3"])
    with store.changing():
        server.crash()
        try:
            with pytest.raises(Unreachable, match="the database cannot be used now"):
                store.write(more)
        finally:
            server.start_again()
    check_equal(store.read(), gallery)
    with store.changing():
        store.write(more)
    check_equal(open_store(server.address("crashed"), tmp_path).read(), more)


def test_rights_are_checked_before_anything_is_computed(server, tmp_path):
    """Would catch a refusal after all photographs have been embedded."""
    Study(tmp_path)
    with pytest.raises(StudyError, match="may not create tables"):
        open_store(server.address("guests", GUEST), tmp_path).check()


def test_other_tables_are_never_changed(server, tmp_path):
    """Would catch an index that is written into another database."""
    Study(tmp_path)
    with server.connect() as connection:
        connection.execute("CREATE SCHEMA others; CREATE TABLE others.images (name text)")
    with pytest.raises(StudyError, match="holds other tables; choose another name"):
        open_store(server.address("others"), tmp_path).check()
    other = tmp_path / "other.sqlite"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE images (name text)")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"a photograph" * 100)
    for path, words in ((other, "another SQLite database"), (photo, "not an SQLite database")):
        before = path.read_bytes()
        store = open_store(f"sqlite:{path}", tmp_path)
        for ask in (store.check, store.metadata, store.exists):
            with pytest.raises(StudyError, match=words):
                ask()
        with pytest.raises(StudyError, match=words), store.changing():
            store.write(Study(tmp_path).gallery())
        assert path.read_bytes() == before
    with pytest.raises(StudyError, match="is a folder"):
        open_store(f"sqlite:{tmp_path}", tmp_path).check()


def test_indexes_of_one_database_are_apart(server, tmp_path):
    """Would catch two runs that share tables."""
    gallery = Study(tmp_path).gallery()
    one = put(server.address("apart_1"), tmp_path, gallery)
    put(server.address("apart_2"), tmp_path, enrol(gallery, "new", gallery.embeddings[:1], ["/1"]))
    check_equal(open_store(server.address("apart_1"), tmp_path).read(), gallery)
    assert one.table()["class_name"].nunique() == 5
