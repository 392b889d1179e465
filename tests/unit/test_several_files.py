"""Data sets of several files, and the data sets that can be had by name."""

import copy
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from configurations import PUBLISHED, describe, refusal, small

from dmlstudy.core.files import StudyError
from dmlstudy.data.gathering import gather, is_archive
from dmlstudy.plan import arguments, configuration, identity
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.memory_requests import size_of
from dmlstudy.plan.planning import plan
from dmlstudy.plan.sources import read_yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
BY_NAME = sorted((CONFIG / "datasets").glob("*.yaml"))


def archive(path, **members):
    """Write a tar or zip archive of {name: text}."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, text in members.items():
                packed.writestr(name, text)
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
    return path


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_files_come_together_in_one_folder(tmp_path):
    """Would catch an archive that replaces another one's folder, or a file that is lost."""
    files = {
        "images.tar.gz": archive(tmp_path / "a", **{"jpg/1.jpg": "one", "list/a.txt": "a"}),
        "more.zip": archive(tmp_path / "more.zip", **{"jpg/2.jpg": "two", "list/x/b.txt": "b"}),
        "labels.mat": tmp_path / "c",
    }
    files["labels.mat"].write_text("labels")
    sizes = []
    gather(files, tmp_path / "out", progress=sizes.append)
    assert contents(tmp_path / "out") == {
        "jpg/1.jpg": "one",
        "jpg/2.jpg": "two",
        "list/a.txt": "a",
        "list/x/b.txt": "b",
        "labels.mat": "labels",
    }
    assert sum(sizes) == 14
    # A second time replaces the folder.
    gather({"labels.mat": files["labels.mat"]}, tmp_path / "out")
    assert contents(tmp_path / "out") == {"labels.mat": "labels"}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"list/a.txt": "other"}, ["second.tgz", "list/a.txt", "another one of dataset.files"]),
        ({"list": "a file"}, ["second.tgz", "holds list", "another one of dataset.files"]),
        ({"../a.txt": "out"}, ["'../a.txt' points outside"]),
        (None, ["neither a zip nor a tar archive", "second.tgz in dataset.files", "HTML page"]),
    ],
)
def test_nothing_is_left_of_files_that_do_not_fit(tmp_path, second, words):
    """Would catch a file that is replaced by another's, one that escapes, or a folder half made."""
    files = {
        "first.tgz": archive(tmp_path / "first", **{"list/a.txt": "a"}),
        "second.tgz": tmp_path / "second",
    }
    if second is None:
        files["second.tgz"].write_text("<!doctype html><html>log in</html>")
    else:
        archive(files["second.tgz"], **second)
    with pytest.raises(StudyError) as told:
        gather(files, tmp_path / "inner/out")
    assert all(word in str(told.value) for word in words), told.value
    assert contents(tmp_path / "inner") == {}
    assert not (tmp_path / "a.txt").exists()


def test_archives_are_known_by_their_names():
    """Would catch an archive that is copied, or a label file that is unpacked."""
    packed = ("a.tar", "a.tgz", "a.tar.gz", "a.TAR.GZ", "a.tar.bz2", "a.tar.xz", "a.zip")
    assert all(map(is_archive, packed))
    assert not any(map(is_archive, ("labels.mat", "list.txt", "a.gz", "tar", "names.csv")))


FILES = {
    "images.tgz": {"source": "https://host/images.tgz", "md5": "1" * 32},
    "labels.mat": {"source": "https://host/labels.mat"},
}


def study_of(files, **dataset):
    config = small()
    empty = {"source": None, "md5": None, "bytes": None}
    config["dataset"] |= {"format": "flowers102", **empty, "files": files, **dataset}
    configuration.validate(config, [])
    return plan(config, describe)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "photos"}, "dataset: give exactly one of source:, files: and drawn:"),
        ({"files": None}, "dataset: give exactly one of source:, files: and drawn:"),
        ({"files": {}}, "dataset.files: is {}; must not be empty"),
        ({"md5": "0" * 32}, "dataset.md5: belongs to source:"),
        ({"bytes": 7}, "dataset.bytes: belongs to source:"),
        ({"files": {"../a.mat": {"source": "a"}}}, "dataset.files.../a.mat: a name has letters"),
        ({"files": {"a.mat": {"md5": "0" * 32}}}, "dataset.files.a.mat.source: is missing"),
        ({"files": {"a.mat": {"source": "a", "size": 3}}}, "unknown key; known here: bytes, md5"),
        (
            {"files": {"a.mat": {"source": "ftp://host/a.mat"}}},
            "dataset.files.a.mat.source: 'ftp://host/a.mat' is neither an address",
        ),
    ],
)
def test_mistakes_in_files_are_refused(change, words):
    """Would catch a mistake in the configuration that a job finds late, or a name that escapes."""
    config = small()
    empty = {"source": None, "md5": None, "bytes": None}
    config["dataset"] |= {"format": "flowers102", **empty, "files": FILES, **change}
    assert words in (refusal(config) or "nothing")


def test_files_are_read_where_they_are_and_told_apart(tmp_path):
    """Would catch a local file that is downloaded, or other files that pass for the same data set."""
    files = copy.deepcopy(FILES)
    study = study_of(files)
    layout = Layout("r", study, by_digest=lambda path: f"by digest: {path}")
    name, folder = study.name, f"r/data/{study.name}"
    assert layout.downloaded == layout.unpacked == []
    assert layout.gathered == [name]
    assert layout.files(name) == {
        "files": [f"by digest: {folder}/files/{file}" for file in FILES],
        "digests": [f"{folder}/files/{file}.sha256" for file in FILES],
    }
    assert layout.image_folder(name) == f"{folder}/images"
    content = "images.tgz md5:11111111111111111111111111111111, labels.mat https://host/labels.mat"
    assert identity.origin(study, name) == content
    assert identity.files_fingerprint(study.datasets[name], tmp_path) == ""
    # A mirror and a local copy are the same data set.
    (tmp_path / "mine.tgz").write_text("images")
    files["images.tgz"]["source"] = str(tmp_path / "mine.tgz")
    local = study_of(files)
    layout = Layout("r", local, by_digest=str)
    assert layout.downloaded_files == ["labels.mat"]
    assert layout.files(name)["files"] == [f"{tmp_path}/mine.tgz", f"{folder}/files/labels.mat"]
    assert layout.files(name)["digests"] == [f"{folder}/files/labels.mat.sha256"]
    assert identity.origin(local, name) == content
    checks = arguments.files_verification(local.datasets[name])
    assert checks == {"images.tgz": {"checksums": {"md5": "1" * 32}, "bytes": None}}
    # The fingerprint follows the content of local files, and the checksums of the others.
    before = identity.files_fingerprint(local.datasets[name], tmp_path)
    assert before == identity.files_fingerprint(local.datasets[name], tmp_path)
    (tmp_path / "mine.tgz").write_text("others")
    changed = identity.files_fingerprint(local.datasets[name], tmp_path)
    local.datasets[name]["files"]["labels.mat"]["md5"] = "2" * 32
    assert len({before, changed, identity.files_fingerprint(local.datasets[name], tmp_path)}) == 3
    (tmp_path / "mine.tgz").unlink()
    with pytest.raises(StudyError, match=r"mine\.tgz: no such file"):
        identity.check_local_files(local)


def test_results_of_other_files_are_refused(tmp_path):
    """Would catch two data sets in one table, or a local copy that is taken for another data set."""
    claim = tmp_path / "study.json"

    def write(study, content):
        from dmlstudy.core.files import write_json

        write_json(claim, identity.identity(study, content))

    write(study_of(FILES), "")
    other = copy.deepcopy(FILES)
    other["images.tgz"]["md5"] = "3" * 32
    with pytest.raises(StudyError, match=r"made with source: images\.tgz md5:1111"):
        identity.refuse_foreign_results(study_of(other), claim, "")
    # The same local file in another place.
    for name in ("a.mat", "b.mat"):
        (tmp_path / name).write_text("labels")
    places = [
        {**FILES, "labels.mat": {"source": str(tmp_path / name)}} for name in ("a.mat", "b.mat")
    ]
    first, second = map(study_of, places)
    content = identity.files_fingerprint(first.datasets[first.name], tmp_path)
    write(first, content)
    identity.refuse_foreign_results(second, claim, content)
    with pytest.raises(StudyError, match="another results_dir"):
        identity.refuse_foreign_results(second, claim, "other content")


def test_identity_of_other_studies_is_unchanged():
    """Would catch results that are refused, or that run again, because a key was added."""
    study = plan(_validated(small()), describe)
    assert identity.identity(study) == {
        "csv": None,
        "dataset": "cub200_2011",
        "drawn": None,
        "format": "cub",
        "source": "md5:97eceeb196236b17998738112f37df78",
        "split": "stratified",
        "split_seed": 42,
        "test_share": 0.2,
    }
    assert arguments.listing(study.datasets["cub200_2011"]) == [
        *("--classes", "200", "--format", "cub", "--max-pixels", "100000000")
    ]


def _validated(config):
    configuration.validate(config, [])
    return config


def merged(path):
    """The published configuration with a data set's file over it, as Snakemake merges them."""
    from snakemake.utils import update_config

    config = copy.deepcopy(PUBLISHED)
    update_config(config, read_yaml(path))
    return _validated(config)


def test_data_sets_by_name_are_all_there():
    """Would catch a file that was forgotten, so that the tests below try nothing."""
    assert [path.stem for path in BY_NAME] == [
        *("aircraft", "cars196", "cub200_2011", "flowers102", "food101", "hotels50k"),
        *("inshop", "online_products", "pets"),
    ]


@pytest.mark.parametrize("path", BY_NAME, ids=[path.stem for path in BY_NAME])
def test_data_set_by_name_plans(path):
    """Would catch a data set that inherits CUB's archive, classes or results, or cannot be verified."""
    config = merged(path)
    study = plan(config, describe)
    name, dataset = path.stem, config["dataset"]
    assert (dataset["name"], config["results_dir"]) == (name, f"results/{name}")
    published = identity.origin(plan(_validated(copy.deepcopy(PUBLISHED)), describe), "cub200_2011")
    assert (identity.origin(study, name) == published) == (name == "cub200_2011")
    assert size_of(dataset, "nowhere").images == dataset["images"]
    unseen = config["protocol"]["unseen_classes"]
    if name in ("cars196", "inshop", "hotels50k"):
        # Nobody publishes a checksum, or there is no archive.
        assert dataset["md5"] is dataset["sha256"] is None
        return
    parts = list((dataset["files"] or {"": dataset}).values())
    assert all((part["md5"] or part["sha256"]) and part["bytes"] for part in parts)
    tenth = round(dataset["classes"] / 10)
    assert unseen == (11316 if name == "online_products" else tenth)
