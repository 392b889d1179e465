"""Options of the programs that a person calls: mistakes are told first, in a sentence."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import run_program
from test_gallery import Study

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.core.options import check_number, check_output
from dmlstudy.use.gallery import enrol
from dmlstudy.use.index_files import read_gallery, write_gallery
from dmlstudy.use.run_folder import check_run

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"


def program(name, *arguments):
    """Run a program in this process; returns its exit code and what it wrote to stderr."""
    code, _, errors = run_program(SCRIPTS / name, *arguments)
    return code, errors


class Run(Study):
    """The folder of a run with an index, below a results folder; and photographs."""

    def __init__(self, folder):
        self.results = folder / "results"
        self.folder = self.results / "experiments" / "one" / "seed42" / "all_classes"
        self.folder.mkdir(parents=True)
        super().__init__(self.folder)
        write_gallery(self.folder / "index", self.gallery())
        self.photos = folder / "photos"
        self.photos.mkdir()
        for name in ("a.jpg", "b.jpg"):
            (self.photos / name).write_bytes(b"photo,graph " + name.encode())


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def everything(folder):
    """The content of all files below a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


NUMBERS = [
    ("name_photos.py", "--neighbours", ["0", "-1"]),
    ("name_photos.py", "--threshold", ["nan", "inf", "-inf"]),
    ("name_photos.py", "--max-pixels", ["0", "-5"]),
    ("enrol.py", "--max-pixels", ["0", "-5"]),
    ("index_gallery.py", "--accepted-share", ["nan", "inf", "0", "-0.5", "1.5"]),
    ("index_gallery.py", "--threads", ["0", "-1"]),
    ("to_fiftyone.py", "--neighbours", ["0", "-1"]),
    ("estimate.py", "--images", ["0", "-1"]),
    ("estimate.py", "--jobs", ["0", "-1"]),
    ("estimate.py", "--seconds", ["nan", "inf", "-1"]),
    ("watch.py", "--every", ["nan", "inf", "0", "-1"]),
    ("watch.py", "--gpu", ["-1"]),
    ("watch.py", "--cores", ["0", "-1"]),
    ("time_spent.py", "--since", ["nan", "inf", "-1"]),
]


def usual(run, name):
    """Arguments of a program that are right."""
    index = [f"--{one}" for one in ("embeddings", "model", "manifest", "split", "class-set", "out")]
    return {
        "name_photos.py": ["--run", run.folder, run.photos],
        "enrol.py": ["--run", run.folder, "--name", "new", run.photos],
        "remove_class.py": ["--run", run.folder, "--name", "mütze"],
        "index_gallery.py": [word for one in index for word in (one, run.folder / "new")],
        "to_fiftyone.py": ["--run", run.folder],
        "export.py": ["--run", run.folder],
        "compare_page.py": ["--results", run.results, "--links", "{}"]
        + [
            word
            for one in ("manifest", "split", "class-sets", "pack", "thumbnails")
            for word in (f"--{one}", run.folder / "not_read")
        ]
        + ["--seeds", "42"],
    }.get(name, [])


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [(name, option, value) for name, option, values in NUMBERS for value in values],
)
def test_number_that_means_nothing_is_refused(run, name, option, value):
    """Would catch NaN, infinity, 0 or a negative number that is taken, or ends in a traceback."""
    before = everything(run.results)
    code, errors = program(name, *usual(run, name), f"{option}={value}")
    assert code == 1
    assert re.search(rf"error: {option} {re.escape(value)}(\.0)?: must be", errors)
    assert "Traceback" not in errors
    assert everything(run.results) == before


VALUES = (-1, 0, 1, 2, 0.5, float("nan"), float("inf"), float("-inf"))
LIMITS = [
    ({"least": 0}, lambda value: 0 <= value < float("inf")),
    ({"above": 0, "most": 1}, lambda value: 0 < value <= 1),
    ({}, lambda value: value == value and abs(value) != float("inf")),
]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(("limits", "fits"), LIMITS)
def test_check_number_equals_a_plain_comparison(value, limits, fits):
    """Would catch limits that are off by one, or swapped."""
    if fits(value):
        check_number("--x", value, **limits)
    else:
        with pytest.raises(StudyError, match=f"^--x {value}: must be"):
            check_number("--x", value, **limits)


def outputs(run):
    """[(program, its option, path, words of the message)]: paths that must not be written."""
    photo = run.photos / "a.jpg"
    inside = run.photos / "a.jpg" / "t.csv"
    return [
        ("name_photos.py", "--csv", run.photos, "is a folder"),
        ("name_photos.py", "--csv", "", "is a folder"),
        ("name_photos.py", "--csv", photo, "not a table of answers"),
        ("name_photos.py", "--csv", run.folder / "model.pt", "not a table of answers"),
        ("name_photos.py", "--csv", run.folder / "index" / "gallery.csv", "not a table of answers"),
        ("name_photos.py", "--csv", inside, "is a file, not a folder"),
        ("name_photos.py", "--csv", "/dev/null", "no regular file"),
        ("name_photos.py", "--log", run.photos, "Is a directory"),
        ("name_photos.py", "--log", photo, "is not a log"),
        ("name_photos.py", "--log", inside, "error: --log"),
        ("enrol.py", "--out", photo, "this is a file"),
        ("enrol.py", "--out", run.photos, "holds other files (a.jpg, b.jpg)"),
        ("enrol.py", "--out", run.photos / "a.jpg" / "new", "is a file, not a folder"),
        ("enrol.py", "--out", run.folder, "holds other files"),
        ("enrol.py", "--out", "index", "the workflow makes this index"),
        ("enrol.py", "--log", photo, "is not a log"),
        ("remove_class.py", "--out", run.photos, "holds other files (a.jpg, b.jpg)"),
        ("remove_class.py", "--out", "index", "the workflow makes this index"),
        ("compare_page.py", "--out", photo, "this is a file"),
        ("export.py", "--out", photo, "this is a file"),
        ("export.py", "--out", run.photos, "holds other files (a.jpg, b.jpg)"),
        ("export.py", "--out", run.folder, "holds other files"),
        ("export.py", "--out", inside, "is a file, not a folder"),
    ]


@pytest.mark.parametrize("case", range(23))
def test_output_is_checked_before_anything_is_computed_or_overwritten(run, case, monkeypatch):
    """Would catch a photograph, model or folder that is replaced, or a mistake told at the end."""
    cases = outputs(run)
    assert len(cases) == 23
    name, option, path, words = cases[case]
    before = everything(run.results.parent)
    monkeypatch.setitem(sys.modules, "dmlstudy.use.trained_model", None)
    arguments = usual(run, name)
    if name == "compare_page.py":
        arguments += ["--comparison", run.results]
    code, errors = program(name, *arguments, f"{option}={path}")
    assert code not in (0, None)
    assert words in errors
    assert "Traceback" not in errors
    assert everything(run.results.parent) == before


def test_a_table_of_answers_may_be_written_over(tmp_path):
    """Would catch a check that refuses the program's own table, an empty file, or a new folder."""
    for text in ("", "photo,known,nearest_image_id\nx,1,2\n"):
        (tmp_path / "t.csv").write_text(text)
        check_output("--csv", tmp_path / "t.csv", begins="photo,known,", holds="a table")
    check_output("--csv", tmp_path / "new" / "deep" / "t.csv", begins="photo,known,")
    assert not (tmp_path / "new").exists()


def test_folder_that_is_not_writable_is_told_first(tmp_path, monkeypatch):
    """Would catch a table that cannot be written after all photographs have been named."""
    # The user root may write everywhere, so the answer of the system is changed.
    monkeypatch.setattr(
        "dmlstudy.core.options.os.access", lambda path, mode: Path(path) != tmp_path
    )
    for path in (tmp_path / "t.csv", tmp_path / "new" / "t.csv"):
        with pytest.raises(StudyError, match=f"the folder {tmp_path} is not writable"):
            check_output("--csv", path)


@pytest.mark.parametrize("name", ["name_photos.py", "enrol.py", "remove_class.py", "export.py"])
def test_folder_that_is_no_run_is_told_with_what_is_right(run, name, monkeypatch):
    """Would catch a command for a file that no rule makes, or a traceback."""
    monkeypatch.chdir(run.results.parent)
    rest = [word for word in usual(run, name) if word not in ("--run", run.folder)]
    own = "results/experiments/one/seed42/all_classes"
    example = "results/experiments/NAME/seed42/all_classes/model.pt"
    cases = [
        # (what is given, words of the message)
        ("results", ["below it are", own]),
        ("results/experiments", ["below it are", own]),
        ("results/experiments/one", ["below it are", own]),
        ("results/experiments/one/seed42", ["below it are", own]),
        (".", ["below it are", own]),
        (f"{own}/index", ["give the folder of the run, which is", own]),
        (f"{own}/model.pt", ["is a file"]),
        ("photos", [f"snakemake --cores all {example}", "photos is not the folder of a run"]),
        ("results/x", [f"snakemake --cores all {example}", "results/x does not exist"]),
        (
            "results/experiments/two/seed42/all_classes",
            ["snakemake --cores all results/experiments/two/seed42/all_classes/model.pt"],
        ),
    ]
    for given, words in cases:
        code, errors = program(name, "--run", given, *rest)
        assert code == 1, given
        assert "Traceback" not in errors
        for word in words:
            assert word in errors, given
    with pytest.raises(StudyError, match=r"results: contains no embeddings\.npz"):
        check_run("results", "embeddings.npz")


INPUTS = [
    ("index_gallery.py", [], "--embeddings"),
    ("compare_page.py", ["--comparison=none", "--out=x"], "--comparison none: no such folder"),
    ("compare_page.py", ["--comparison=photos", "--out=x"], "photos/experiments.csv: no such file"),
    ("compare_page.py", ["--comparison=photos/a.jpg", "--out=x"], "is not a folder"),
    ("show_problems.py", ["--folders", "photos"], "photos/problems.csv: no such file"),
    ("estimate.py", ["--configfile", "photos"], "photos: no such configuration"),
    ("export.py", ["--data", "photos/x"], "--data photos/x: no such folder"),
    ("export.py", [], "embeddings.npz: missing, and a model card needs its figures"),
    ("name_photos.py", ["--index", "photos/x"], "photos/x: there is no index"),
    ("enrol.py", ["--index", "photos/a.jpg"], "there is no index"),
    ("enrol.py", ["--name", " "], "a class name must be"),
    ("remove_class.py", ["--index", "photos/a.jpg"], "there is no index"),
    ("remove_class.py", ["--name", "mutze"], "is not in the index; did you mean mütze?"),
    ("name_photos.py", ["--answer", "lda"], "an earlier version, which answers by nearest only"),
    ("name_photos.py", ["--answer", "x"], "the index does not answer in this way; known: nearest"),
]


@pytest.mark.parametrize("case", range(len(INPUTS)))
def test_input_that_is_missing_or_a_folder_is_named(run, case, monkeypatch):
    """Would catch a traceback for a mistyped path, or a folder in place of a file."""
    monkeypatch.chdir(run.results.parent)
    name, arguments, words = INPUTS[case]
    code, errors = program(name, *usual(run, name), *arguments)
    assert code == 1
    assert words in errors
    assert "Traceback" not in errors


def test_record_of_snakemake_with_a_long_name_is_counted(tmp_path, monkeypatch):
    """Would catch a traceback for outputs with long paths, which Snakemake keeps in folders."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / ".snakemake" / "metadata" / "@abc" / "def"
    place.parent.mkdir(parents=True)
    record = {"rule": "train", "job_hash": 1, "starttime": 5.0, "endtime": 9.0}
    place.write_text(json.dumps(record))
    assert program("time_spent.py")[0] in (0, None)
    found = runpy.run_path(str(SCRIPTS / "time_spent.py"))["seconds_by_rule"]
    assert found(tmp_path / ".snakemake" / "metadata", 0) == {"train": [4.0]}
    place.write_text("not JSON")
    code, errors = program("time_spent.py")
    assert code == 1
    assert "not a record of Snakemake" in errors


def test_same_bytes_are_not_enrolled_twice(run):
    """Would catch one photograph in an index under two names of files or of classes."""
    gallery = run.gallery()
    rows = np.eye(8, dtype=np.float32)
    one = enrol(gallery, "new", rows[:2], ["/x/a.jpg", "/x/b.jpg"], digests=["aa", "bb"])
    write_gallery(run.folder / "index_enrolled", one)
    one = read_gallery(run.folder / "index_enrolled", run.model)
    for name, existing in (("other", False), ("new", True)):
        with pytest.raises(
            StudyError, match=r"already in the index, as 'new': it equals /x/b\.jpg"
        ):
            enrol(one, name, rows[2:3], ["/y/c.jpg"], existing=existing, digests=["bb"])
    with pytest.raises(StudyError, match=r"^/x/b\.jpg: .*given twice: it equals /x/a\.jpg"):
        enrol(gallery, "new", rows[:2], ["/x/a.jpg", "/x/b.jpg"], digests=["aa", "aa"])
    two = enrol(one, "other", rows[2:3], ["/y/c.jpg"], digests=["cc"])
    first = len(run.manifest)
    assert two.digests == {first: "aa", first + 1: "bb", first + 2: "cc"}


def test_photograph_of_the_data_set_is_not_enrolled_under_another_name(run, tmp_path):
    """Would catch an image of the gallery in a new class; and an index that has no digests yet."""
    run.manifest["sha256"] = [f"{index:064x}" for index in run.manifest["image_id"]]
    rows = np.eye(8, dtype=np.float32)
    write_gallery(run.folder / "index", run.gallery())
    gallery = read_gallery(run.folder / "index", run.model)
    with pytest.raises(StudyError, match=r"as 'NA': it equals images/3/18\.jpg"):
        enrol(gallery, "new", rows[:1], ["/x/a.jpg"], digests=[f"{18:064x}"])
    # Image 20 is a query, which no index has.
    enrol(gallery, "new", rows[:1], ["/x/a.jpg"], digests=[f"{20:064x}"])
    # Enrolled by an older version: only the path is known.
    photo = run.photos / "a.jpg"
    old = enrol(gallery, "new", rows[:1], [str(photo)])
    with pytest.raises(StudyError, match="already in the index, as 'new'"):
        enrol(old, "other", rows[1:2], ["/copy.jpg"], digests=[file_digest(photo)])


def test_two_spellings_of_one_name_are_one_class(run):
    """Would catch two classes that look the same, from two ways to write one letter in Unicode."""
    composed, decomposed = "mütze", "mu\u0308tze"
    gallery, rows = run.gallery(), np.eye(8, dtype=np.float32)
    with pytest.raises(StudyError, match="already in the index"):
        enrol(gallery, decomposed, rows[:1], ["/x/a.jpg"])
    more = enrol(gallery, decomposed, rows[:1], ["/x/a.jpg"], existing=True)
    assert set(more.table["class_name"]) == set(gallery.table["class_name"])
    assert more.table["class_name"].iloc[-1] == composed
