"""A folder that is replaced: nothing of anybody else is removed."""

import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.use.index_files import check_replaceable
from dmlstudy.use.replacing import put_back


@pytest.mark.parametrize("name", [".git", ".env", ".ssh"])
def test_hidden_files_of_a_user_are_not_replaced(tmp_path, name):
    """Would catch an index written over a folder with only hidden files, which are then gone."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(StudyError, match=rf"holds other files \(\{name}\)"):
        check_replaceable(tmp_path)


def test_hidden_files_of_programs_do_not_matter(tmp_path):
    """Would catch an index that can no longer be changed because a program left its own file in it."""
    for name in (".snakemake_timestamp", ".nfs00000001", ".DS_Store", "index.json"):
        (tmp_path / name).touch()
    check_replaceable(tmp_path)
    check_replaceable(tmp_path / "new")


@pytest.mark.parametrize(
    ("name", "other"), [("a[1]", "a1"), ("index*", "index_enrolled"), ("index", "index.seen")]
)
def test_only_the_own_folder_is_put_back(tmp_path, name, other):
    """Would catch an index that stays lost after a kill because of its name, and one that takes another's."""
    for one in (name, other):
        (tmp_path / f".{one}.77.old").mkdir()
        (tmp_path / f".{one}.77.old" / one).touch()
    put_back(tmp_path / name)
    assert [path.name for path in (tmp_path / name).iterdir()] == [name]
    assert (tmp_path / f".{other}.77.old" / other).exists()
