"""What a container must be shown."""

from dmlstudy.plan.mounts import binds, mounts


def test_only_what_is_not_shown_is_mounted_once(tmp_path):
    """Mounts over what is mounted already, which apptainer warns of, or folders within folders."""
    for name in ("work/photos", "data/birds", "data/birds/more"):
        (tmp_path / name).mkdir(parents=True)
    paths = [tmp_path / "work/photos", tmp_path / "data/birds", tmp_path / "data/birds/more"]
    assert mounts(paths, [tmp_path / "work"]) == [str(tmp_path / "data/birds")]


def test_links_need_what_they_point_to(tmp_path, monkeypatch):
    """A link in the working directory that leads to nowhere inside the container."""
    for name in ("work", "data/birds"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    (tmp_path / "work/photos").symlink_to(tmp_path / "data/birds")
    assert mounts(["photos"], [tmp_path / "work"]) == [str(tmp_path / "data/birds")]
    (tmp_path / "other").symlink_to(tmp_path / "data")
    found = mounts([tmp_path / "other/birds"], [tmp_path / "work"])
    assert found == [str(tmp_path / "other/birds"), str(tmp_path / "data/birds")]


def test_folder_to_come_is_mounted_by_its_parent(tmp_path):
    """Results that cannot be written, since their folder was not there when the job began."""
    assert mounts([tmp_path / "results/demo"], [tmp_path / "work"]) == [str(tmp_path)]
    assert mounts(["/no_such_folder/results"], [tmp_path]) == []


def test_list_of_mounts_keeps_what_is_in_it_and_does_not_grow(tmp_path):
    """A user's own mounts that are lost, data that a job may change, or a list that doubles."""
    for name in ("data", "results"):
        (tmp_path / name).mkdir()
    paths = ([tmp_path / "data"], [tmp_path / "results"], [tmp_path / "work"])
    once = binds("/scratch:/scratch", *paths)
    data = tmp_path / "data"
    assert once.split(",") == ["/scratch:/scratch", f"{data}:{data}:ro", str(tmp_path / "results")]
    assert binds(once, *paths) == once
    assert binds("", [], [], []) == ""
