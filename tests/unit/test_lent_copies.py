"""A borrowed copy is what its original was, whatever its last borrower did to it."""

import os
import shutil

import pytest
from lent_copies import Copies


def content(folder):
    """{path: what it is, with permissions and times}."""
    found = {}
    for path in folder.rglob("*"):
        one = path.lstat()
        what = os.readlink(path) if path.is_symlink() else path.is_file() and path.read_bytes()
        # The time of a link itself says nothing to anyone.
        time = None if path.is_symlink() else one.st_mtime_ns
        found[str(path.relative_to(folder))] = what, one.st_mode, time
    return found


@pytest.fixture
def original(tmp_path):
    folder = tmp_path / "original"
    (folder / "data" / "deep").mkdir(parents=True)
    for name in ("data/a.txt", "data/deep/b.txt", "data/deep/c.txt", "one.txt", "left out.txt"):
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(10**18, 10**18))
    (folder / "data" / "link").symlink_to("a.txt")
    (folder / "data" / "folder").symlink_to("deep")
    (folder / "data" / "program").touch(mode=0o755)
    os.utime(folder / "data" / "deep", ns=(10**18, 10**18))
    return folder


def other_content_at_the_old_time(copy):
    path = copy / "data" / "a.txt"
    before = path.stat()
    path.write_text("DATA/A.TXT")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def new_and_missing(copy):
    (copy / "new" / "deep").mkdir(parents=True)
    (copy / "new" / "deep" / "file").touch()
    (copy / "data" / "deep" / "new").touch()
    (copy / "one.txt").unlink()
    shutil.rmtree(copy / "data" / "deep")


def other_kinds(copy):
    shutil.rmtree(copy / "data" / "deep")
    (copy / "data" / "deep").write_text("a file")
    (copy / "one.txt").unlink()
    (copy / "one.txt").mkdir()
    (copy / "data" / "link").unlink()
    (copy / "data" / "link").symlink_to("program")
    (copy / "data" / "folder").unlink()
    (copy / "data" / "folder").mkdir()


def times_and_permissions(copy):
    os.utime(copy / "one.txt")
    os.utime(copy / "data" / "deep")
    (copy / "data" / "program").chmod(0o644)
    (copy / "data" / "deep").chmod(0o500)


def replaced_by_a_link(copy):
    (copy / "data" / "deep").rename(copy / "elsewhere")
    (copy / "data" / "deep").symlink_to("../elsewhere")


CHANGES = (
    other_content_at_the_old_time,
    new_and_missing,
    other_kinds,
    times_and_permissions,
    replaced_by_a_link,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_next_borrower_sees_nothing_of_the_last(original, tmp_path, change):
    """Would catch a test that fails, or passes, because of what another one left in its project."""
    copies = Copies(original, ("data", "one.txt"), tmp_path / "store")
    first = copies.take(tmp_path / "first" / "project")
    before = content(first)
    assert before == {
        name: what for name, what in content(original).items() if name != "left out.txt"
    }
    untouched = (first / "data" / "program").stat().st_ino
    change(first)
    assert content(first) != before
    copies.give_back(first)
    (tmp_path / "second").mkdir()
    second = copies.take(tmp_path / "second" / "project")
    assert content(second) == before
    if change is new_and_missing:
        # What nobody has changed was not copied again.
        assert (second / "data" / "program").stat().st_ino == untouched


def test_two_borrowers_have_two_copies(original, tmp_path):
    """Would catch tests that write into one project, or a copy that is lent while it is in use."""
    copies = Copies(original, os.listdir(original), tmp_path / "store")
    first, second = (copies.take(tmp_path / name) for name in ("first", "second"))
    (first / "one.txt").write_text("mine")
    assert (second / "one.txt").read_text() == "one.txt"
    copies.give_back(first)
    copies.give_back(second)
    third = copies.take(tmp_path / "third")
    assert content(third) == content(original)
    assert not first.exists()
