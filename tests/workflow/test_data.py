"""Real data in the whole workflow: downloads, archives, tables, checks of data. No network."""

import csv
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import yaml
from layouts import flowers102
from loopback import Server
from PIL import Image
from tiny_study import PROJECT, Project

CLASSES = ("blackbird", "robin", "wren")
MANIFEST = "results/photos/data/photos/manifest.csv"


def draw_photos(folder, count=4, size=(40, 36)):
    """Draw different images in a folder per class."""
    rng = np.random.default_rng(0)
    for class_id, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
            pixels[..., class_id] += 150
            Image.fromarray(pixels).save(folder / name / f"{index:02}.jpg")


def archive_of(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(folder, "photos")
    return stream.getvalue()


def configure(project, name="photos.yaml", **dataset):
    """A configuration of a data set of photographs, over the tiny one."""
    entry = {"name": "photos", "format": "folders", "drawn": None, "classes": None, "md5": None}
    change = {
        "results_dir": "results/photos",
        "dataset": {**entry, "bytes": None, **dataset},
        "protocol": {"unseen_classes": 1, "test_share": 0.25},
    }
    tiny = yaml.safe_load((project.folder / "tests/workflow/tiny.yaml").read_text())
    tiny["protocol"] |= change.pop("protocol")
    del tiny["other_datasets"], tiny["initializers"]
    tiny["substitute_initializers"] = {"imagenet": "scratch"}
    (project.folder / name).write_text(yaml.safe_dump({**tiny, **change}))
    return name


def rows(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def server():
    server = Server(b"")
    yield server
    server.close()


@pytest.fixture
def photos(server, tmp_path):
    """Serve photographs as an archive; returns its checksum."""
    draw_photos(tmp_path / "photos")
    server.content = archive_of(tmp_path / "photos")
    return {"md5": hashlib.md5(server.content).hexdigest()}


def test_download_that_broke_goes_on_and_another_mirror_runs_nothing(fresh, server, photos):
    """Would catch a download lost with a failed job, or repeated because of a new mirror."""
    first, second = f"{server.address}/first.tgz", f"{server.address}/second.tgz"
    settings = configure(fresh, source=[first, second], **photos)
    server.plan = [404, "cut", 404]
    text = fresh.snakemake(MANIFEST, config=settings, ok=False)
    assert "404" in text
    assert "Traceback" not in text
    assert not (fresh.folder / "results/photos/data/photos/archive").exists()
    server.plan = [404]
    fresh.snakemake(MANIFEST, config=settings)
    half = len(server.content) // 2
    assert server.paths == ["/first.tgz"] + ["/second.tgz"] * 2 + ["/first.tgz", "/second.tgz"]
    assert server.requests == [None, None, f"bytes={half}-", None, f"bytes={half}-"]
    assert server.sent == len(server.content)
    assert [row["class_name"] for row in rows(fresh.folder / MANIFEST)][::4] == list(CLASSES)
    configure(
        fresh, source=["https://host/photos.tgz", second], bytes=len(server.content), **photos
    )
    assert fresh.planned(MANIFEST, config=settings) == []
    # The same settings with another archive are another study, with its own download.
    configure(fresh, source=[second], md5="0" * 32)
    assert f"Download {second}" in fresh.planned(MANIFEST, config=settings)


def test_wrong_archive_is_not_unpacked(fresh, server, photos):
    """Would catch an archive, local or downloaded, that does not match its checksum."""
    (fresh.folder / "photos.tgz").write_bytes(server.content)
    for source in (server.url, "photos.tgz"):
        settings = configure(fresh, source=source, md5="0" * 32)
        text = fresh.snakemake(MANIFEST, config=settings, ok=False)
        assert f"md5 is {photos['md5']}" in text
        folder = fresh.folder / "results/photos/data/photos"
        assert not (folder / "images").exists()
        assert not (folder / "archive").exists()


def test_downloads_are_shared_between_working_directories(
    fresh, server, photos, tmp_path, monkeypatch
):
    """Would catch downloads repeated for each working directory, or weights of another network."""
    weights = {name: name.encode() * 1000 for name in ("resnet18", "resnet50")}
    entries = {}
    for name, content in weights.items():
        server.files[f"/{name}"] = content
        digest = hashlib.sha256(content).hexdigest()
        entries[name] = {"source": [f"{server.address}/{name}"], "sha256": digest}
    (tmp_path / "cache").mkdir()
    targets = [f"results/photos/initializers/imagenet/{name}.weights" for name in weights]
    second = Project.fresh(tmp_path / "second")
    for project in (fresh, second):
        settings = configure(project, source=server.url, **photos)
        files = {"kind": "file", "weights": entries}
        changes = {"initializers": {"imagenet": files}, "untrained": {"backbones": list(weights)}}
        project.change_yaml(settings, lambda c, changes=changes: c.update(changes))
        monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
        project.snakemake(MANIFEST, *targets, "--cache", config=settings)
        for name, target in zip(weights, targets, strict=True):
            assert (project.folder / target).read_bytes() == weights[name]
        assert len(rows(project.folder / MANIFEST)) == 12
        monkeypatch.delenv("SNAKEMAKE_OUTPUT_CACHE")
        # Without a cache there is no message about it, and nothing runs, even with another address for
        # the weights.
        mirror = {**entries["resnet18"], "source": ["https://host/resnet18.pth"]}
        project.change_yaml(
            settings,
            lambda c, m=mirror: c["initializers"]["imagenet"]["weights"].update(resnet18=m),
        )
        text = project.snakemake("--dry-run", MANIFEST, *targets, config=settings)
        assert "caching" not in text
        assert "Nothing to be done" in text
    assert len(server.paths) == 3


def test_check_data_lists_all_that_is_wrong(fresh, tmp_path):
    """Would catch a check that stops at the first bad file, starts a training, or succeeds."""
    draw_photos(fresh.folder / "photos", count=12)
    photos = fresh.folder / "photos"
    whole = (photos / "robin" / "00.jpg").read_bytes()
    (photos / "robin" / "00.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "robin" / "01.jpg").write_text("no photograph")
    (photos / "wren" / "02.jpg").write_bytes(b"")
    (photos / "wren" / "03.jpg").write_bytes((photos / "robin" / "03.jpg").read_bytes())
    (photos / "zebra").mkdir()
    (photos / "zebra" / "only.jpg").write_bytes(whole)
    settings = configure(fresh, source="photos")
    text = fresh.snakemake("check_data", config=settings, ok=False)
    folder = fresh.folder / "results/photos/data/photos/check"
    problems = rows(folder / "problems.csv")
    for words in (
        "robin/00.jpg",
        "robin/01.jpg",
        "wren/02.jpg",
        "'zebra' has 1 image",
        "in two classes",
    ):
        assert words in text
        assert len([row for row in problems if words in row["problem"]]) == 1
    assert len(problems) == 5
    assert "5 to fix" in text
    assert rows(folder / "classes.csv")[1] == {
        "class_name": "robin",
        "images": "12",
        "unreadable": "2",
        "train": "7",
        "validation": "0",
        "test": "3",
    }
    assert not (fresh.folder / "results/photos/study.json").exists()
    assert not (fresh.folder / "results/photos/experiments").exists()
    for name in ("robin/00", "robin/01", "wren/02", "wren/03", "zebra/only"):
        (photos / f"{name}.jpg").unlink()
    (photos / "zebra").rmdir()
    assert "nothing to fix" in fresh.snakemake("check_data", config=settings)


def test_duplicates_are_reported_and_stop_nothing(fresh):
    """Would catch duplicates in two parts that are not reported, or that stop the study."""
    draw_photos(fresh.folder / "photos")
    for index in range(1, 4):
        name = f"photos/wren/{index:02}.jpg"
        (fresh.folder / name).write_bytes((fresh.folder / "photos/wren/00.jpg").read_bytes())
    settings = configure(fresh, source="photos")
    text = fresh.snakemake("results/photos/data/photos/split.csv", config=settings)
    assert "1 file(s) in two parts" in text
    listed = rows(fresh.folder / "results/photos/data/photos/duplicates.csv")
    assert [row["path"] for row in listed] == [f"wren/{index:02}.jpg" for index in range(4)]
    assert {row["problem"] for row in listed} == {"in two parts"}


# The guide of docs/own-photos.md.

# What makes the study small; everything else is the guide's.
SMALL = {
    "only": ["EPSHN_cosine_resnet18_sgd_aug"],
    "untrained": {"backbones": []},
    "substitute_initializers": {"imagenet": "scratch"},
    "device": "cpu",
    "protocol": {"image_size": 32, "epochs": 1, "batch_size": 8, "compute_threads": 1},
}


def guide():
    """Fenced blocks of the guide: [(language, text)]."""
    text = (PROJECT / "docs" / "own-photos.md").read_text(encoding="utf-8")
    blocks = text.split("\n```")[1::2]
    return [tuple(block.split("\n", 1)) for block in blocks]


def test_guide(fresh):
    """Would catch a guide whose commands or keys no longer work."""
    shutil.copy(PROJECT / "Makefile", fresh.folder)
    shutil.copytree(PROJECT / "envs", fresh.folder / "envs", dirs_exist_ok=True)
    # Use this environment instead of installing one.
    (fresh.folder / ".venv").symlink_to(sys.prefix)
    draw_photos(fresh.folder / "photos", count=5)
    table = fresh.folder / "photos" / "photos.csv"
    (fresh.folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    blocks = guide()
    # Options of a make that runs this test must not reach the makes that it starts.
    variables = {
        key: value
        for key, value in os.environ.items()
        if key != "VENV" and not key.startswith("MAKE")
    }

    def run(command):
        done = subprocess.run(
            ["bash", "-ec", command],
            cwd=fresh.folder,
            env={**variables, "KIND": "cpu"},
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=600,
        )
        assert not done.returncode, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    for language, text in blocks:
        if language == "yaml":
            (fresh.folder / text.split("\n")[0].removeprefix("# ")).write_text(text)
    commands = [
        text for language, text in blocks if not language and not text.startswith("photos/")
    ]
    check, study = commands
    text = run(check)
    assert "$ .venv/bin/python -m snakemake --cores all check_data --configfile my.yaml" in text
    assert "nothing to fix" in text
    assert "--configfile my.yaml" in study
    run(study.replace("my.yaml", "my.yaml small.yaml"))
    assert (fresh.folder / "results/mine/comparison/index.html").stat().st_size > 1000
    # The table: the guide's header with the images of the test.
    header = dict(blocks)["csv"].split("\n")[0]
    lines = [
        f"{name}/{index:02}.jpg,{name},{'test' if index == 4 else 'train'}"
        for name in CLASSES
        for index in range(5)
    ]
    table.write_text("\n".join([header, *lines]) + "\n")
    text = run(check.replace("my.yaml", "table.yaml"))
    assert "nothing to fix" in text
    classes = rows(fresh.folder / "results/table/data/table/check/classes.csv")
    assert [(row["class_name"], row["train"], row["test"]) for row in classes] == [
        (name, "4", "1") for name in CLASSES
    ]


def test_copies_stand_in_one_part(fresh):
    """Would catch copies that the rules do not hand to the split, or a split that replaces another."""
    draw_photos(fresh.folder / "photos")
    wren = fresh.folder / "photos/wren"
    for index in range(1, 4):
        with Image.open(wren / "00.jpg") as image:
            image.save(wren / f"{index:02}.jpg", quality=95 - index)
    settings = configure(fresh, source="photos")
    split = "results/photos/data/photos/split.csv"
    together = ["--config", "protocol={duplicates: together}"]
    text = fresh.snakemake(split, *together, config=settings, ok=False)
    assert "class 'wren': all of its 4 photographs are one group" in text
    for index in range(4, 8):
        noise = np.random.default_rng(index).integers(0, 256, (36, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(wren / f"{index:02}.jpg")
    fresh.snakemake(split, *together, config=settings)
    data = fresh.folder / "results/photos/data/photos"
    copies = rows(data / "copies.csv")
    assert [row["path"] for row in copies] == [f"wren/{index:02}.jpg" for index in range(4)]
    assert {row["kind"] for row in copies} == {"near duplicate"}
    assert len({row["part"] for row in rows(data / "groups.csv")}) == 1
    assert fresh.planned(split, *together, config=settings) == []
    text = fresh.snakemake(split, config=settings, ok=False)
    assert "made with duplicates: together, the configuration says keep" in text


def test_data_set_of_several_files(fresh, server, tmp_path):
    """Would catch a file that is not verified, downloaded twice, or a mirror that runs anything again."""
    folder = tmp_path / "flowers"
    expected = flowers102(folder)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        archive.add(folder / "jpg", "jpg")
    contents = {"102flowers.tgz": stream.getvalue()}
    for name in ("imagelabels.mat", "setid.mat"):
        contents[name] = (folder / name).read_bytes()
    server.files = {f"/{name}": content for name, content in contents.items()}

    def files(address, **checksums):
        return {
            name: {
                "source": f"{address}/{name}",
                "md5": checksums.get(name, hashlib.md5(content).hexdigest()),
                "bytes": len(content),
            }
            for name, content in contents.items()
        }

    def settings(address, **checksums):
        data = {"format": "flowers102", "source": None, "classes": 102}
        return configure(fresh, files=files(address, **checksums), **data)

    wrong = settings(server.address, **{"setid.mat": "0" * 32})
    text = fresh.snakemake(MANIFEST, "--keep-going", config=wrong, ok=False)
    assert f"/setid.mat: md5 is {hashlib.md5(contents['setid.mat']).hexdigest()}" in text
    assert "Traceback" not in text
    data = fresh.folder / "results/photos/data/photos"
    assert not (data / "images").exists()
    assert not (data / "files/setid.mat").exists()
    # The files that were right are not fetched again. One that breaks goes on.
    assert len(server.paths) == 3
    server.plan = ["cut"]
    fresh.snakemake(MANIFEST, config=settings(server.address))
    half = len(contents["setid.mat"]) // 2
    assert server.paths[3:] == ["/setid.mat", "/setid.mat"]
    assert server.requests[3:] == [None, f"bytes={half}-"]
    found = {row["path"]: row for row in rows(fresh.folder / MANIFEST)}
    assert {path: row["class_name"] for path, row in found.items()} == {
        path: name for path, (name, _, _) in expected.items()
    }
    assert fresh.planned(MANIFEST, config=settings("https://mirror")) == []
    # The same archive, which somebody has already, is verified and used where it is.
    with_local = settings(server.address)
    local = {"source": str(tmp_path / "mine.tgz")}
    fresh.change_yaml(with_local, lambda c: c["dataset"]["files"]["102flowers.tgz"].update(local))
    (tmp_path / "mine.tgz").write_bytes(contents["102flowers.tgz"][:-1] + b"!")
    text = fresh.snakemake(MANIFEST, config=with_local, ok=False)
    assert "mine.tgz: md5 is" in text
    (tmp_path / "mine.tgz").write_bytes(contents["102flowers.tgz"])
    fresh.snakemake(MANIFEST, config=with_local)
    assert len(server.paths) == 5
