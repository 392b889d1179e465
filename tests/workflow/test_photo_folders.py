"""Folders of photographs in the whole workflow: what counts as a change, and whose results they are."""

import shutil

import pytest
from test_data import configure, draw_photos

SPLIT = "results/photos/data/photos/split.csv"


@pytest.fixture
def listed(fresh):
    """The project with photographs, one of their folders behind a link, listed and split."""
    draw_photos(fresh.folder / "photos")
    shutil.move(fresh.folder / "photos" / "wren", fresh.folder / "elsewhere")
    (fresh.folder / "photos" / "wren").symlink_to("../elsewhere")
    fresh.snakemake(SPLIT, config=configure(fresh, source="photos"))
    return fresh


def planned(project, source="photos", **options):
    return project.planned(SPLIT, config=configure(project, source=source), **options)


def test_only_photographs_run_anything_again(listed):
    """Would catch a note that trains everything, or photographs behind a link that do not."""
    (listed.folder / "photos" / "notes.txt").write_text("x")
    (listed.folder / "photos" / "robin" / "x.heic").write_text("x")
    assert planned(listed) == []
    (listed.folder / "elsewhere" / "00.jpg").unlink()
    assert "List the images of photos" in planned(listed)


def test_same_photographs_in_another_place_are_the_same_data_set(listed):
    """Would catch another spelling of a path that is refused, or trains again; and other photographs."""
    (listed.folder / "link").symlink_to("photos")
    for source in ("photos/", "./photos", str(listed.folder / "photos"), "link"):
        assert planned(listed, source) == [], source
    shutil.move(listed.folder / "photos", listed.folder / "moved")
    assert planned(listed, "moved") == []
    draw_photos(listed.folder / "others", count=5)
    text = listed.snakemake("--dry-run", SPLIT, config=configure(listed, source="others"), ok=False)
    assert "these results were made with source: photos" in text


def test_results_among_the_photographs_are_no_photographs(fresh, tmp_path):
    """Would catch `source: .`, whose results are a class, or a change at every start."""
    draw_photos(tmp_path / "mine")
    settings = fresh.folder / configure(fresh, source=".")
    arguments = ("--directory", str(tmp_path / "mine"), SPLIT)
    fresh.snakemake(*arguments, config=str(settings))
    assert (tmp_path / "mine" / SPLIT).exists()
    assert fresh.planned(*arguments, config=str(settings)) == []
