"""Trainings on another machine: parts arrive whole or not at all, and results fit into what may come back."""

import json
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dmlstudy.core.files import StudyError, file_digest, write_json
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.data.dataset import make_split, read_manifest, write_csv
from dmlstudy.data.manifest import make_manifest
from dmlstudy.elsewhere import collecting, machine, parts, preparing
from dmlstudy.elsewhere import job as jobs
from dmlstudy.elsewhere.smaller import TABLE, make_smaller

# Parts.


@pytest.fixture
def files(tmp_path):
    """Files of several sizes, as {name in the archive: path}."""
    drawn = np.random.default_rng(0)
    found = {}
    for number, size in enumerate((0, 10, 100_000, 3_000)):
        path = tmp_path / "from" / f"file{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(drawn.bytes(size))
        found[f"a/b{number}"] = path
    return found


@pytest.mark.parametrize("apart", [True, False])
def test_parts_give_the_files_back(tmp_path, files, apart):
    """Would catch bytes that are lost between two parts, and parts above the limit."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    index = parts.write_parts(out, "set", files, 30_000, apart=apart, about={"word": 1})
    assert index["word"] == 1
    assert len(index["parts"]) == 4
    folders = sorted(out.glob("part_*")) if apart else [out]
    for folder in folders:
        assert parts.index_of(folder, "set") == index
        assert max(path.stat().st_size for path in folder.glob("set.[0-9]")) <= 30_000
    assert sum(parts.take(folder, kept, index) for folder in folders) == 4
    parts.unpack(kept, index, tmp_path / "to")
    for name, path in files.items():
        assert (tmp_path / "to" / name).read_bytes() == path.read_bytes()
    # The archive is no larger than is reckoned beforehand.
    total = sum(part["bytes"] for part in index["parts"])
    assert total <= sum(map(parts.size_of, files.values())) + parts.END_BYTES


def test_damaged_and_missing_parts_are_refused(tmp_path, files):
    """Would catch photographs that are trained on although a byte of them was lost on the way."""
    out, kept = tmp_path / "out", tmp_path / "kept"
    index = parts.write_parts(out, "set", files, 30_000, apart=True)
    damaged = out / "part_2" / "set.2"
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    damaged.write_bytes(content)
    parts.take(out / "part_1", kept, index)
    with pytest.raises(StudyError, match=r"set\.2: damaged on its way"):
        parts.take(out / "part_2", kept, index)
    assert parts.missing(kept, index) == ["set.2", "set.3", "set.4"]
    with pytest.raises(StudyError, match=r"set\.2, set\.3, set\.4 missing"):
        parts.unpack(kept, index, tmp_path / "to")
    for number in (3, 4):
        parts.take(out / f"part_{number}", kept, index)
    # Damaged where it was kept.
    (kept / "set.2").write_bytes(content)
    with pytest.raises(StudyError, match="damaged"):
        parts.unpack(kept, index, tmp_path / "to")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from", "kept", "out"]


@pytest.mark.parametrize(
    "content",
    [
        '{"parts": [{"name": "../evil", "bytes": 1, "sha256": "DIGEST"}]}',
        '{"parts": [{"name": "EVIL", "bytes": 1, "sha256": "DIGEST"}]}',
        '{"parts": [{"name": "..", "bytes": 1, "sha256": "DIGEST"}]}',
        '{"parts": [{"name": 1, "bytes": 1, "sha256": "DIGEST"}]}',
        '{"parts": [{"name": "a", "bytes": 1}]}',
        "[]",
        "{",
        "\udcff",
    ],
)
def test_an_index_names_only_files_beside_it(tmp_path, content):
    """Would catch a file that another machine has written outside of the folder of parts."""
    folder, evil = tmp_path / "came", tmp_path / "evil"
    folder.mkdir()
    evil.write_bytes(b"x")
    content = content.replace("DIGEST", file_digest(evil)).replace("EVIL", str(evil))
    (folder / "back_1.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(StudyError, match=r"back_1\.json: not an index of parts"):
        parts.index_of(folder, "back_1")


def test_prepare_replaces_nothing_of_others(tmp_path):
    """Would catch parts and wheels that are written over a folder of the user's."""
    own = tmp_path / "out" / "carried" / "mine.txt"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    command = [
        sys.executable,
        PROGRAMS / "train_elsewhere.py",
        "prepare",
        "--out",
        tmp_path / "out",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "this folder holds other files" in done.stderr
    assert own.read_text() == "mine"
    assert len(list((tmp_path / "out").rglob("*"))) == 2


@pytest.mark.parametrize(
    "options",
    [
        ["prepare", "--out", "o", "--shorter", "0"],
        ["prepare", "--out", "o", "--cores", "0"],
        ["prepare", "--out", "o", "--checkpoint-every", "0"],
        ["run", "--store", "s", "--back", "b", "--threads", "-1"],
        ["run", "--store", "s", "--back", "b", "--least-seconds", "nan"],
    ],
)
def test_options_are_checked_before_anything_is_done(tmp_path, options):
    """Would catch photographs that are downloaded, or minutes of another machine that are lent, for nothing."""
    done = subprocess.run(
        [sys.executable, PROGRAMS / "train_elsewhere.py", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert done.returncode == 1
    assert f"{options[-2]} {options[-1]}: must be" in done.stderr
    assert list(tmp_path.iterdir()) == []


# Smaller photographs.


def test_smaller_photographs_keep_classes_split_and_boxes(tmp_path):
    """Would catch other classes or another split than the original's, boxes in old pixels, and large files."""
    drawn = np.random.default_rng(0)
    rows, images = [], tmp_path / "images"
    # Numbers before names put these classes into an order that their names alone do not have.
    for name in ("2.Auk", "10.Auk", "3.Crow"):
        for number in range(4):
            path = images / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            size = (60, 80) if number else (30, 20)
            Image.fromarray(drawn.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(path)
            rows.append({"path": f"{name}/{number}.png", "class": name, "size": size})
    manifest = make_manifest(images, "folders", max_pixels=10**6)
    boxes = ["box_x", "box_y", "box_width", "box_height"]
    manifest[boxes] = [6.0, 8.0, 30.0, 40.0]
    manifest.loc[1, boxes] = np.nan
    write_csv(tmp_path / "manifest.csv", manifest)
    out = tmp_path / "smaller"
    count = make_smaller(out, images, tmp_path / "manifest.csv", 30, 75, max_pixels=10**6)
    assert count == 3
    table = make_manifest(out, "csv", max_pixels=10**6, classes=3, csv=TABLE)
    original = read_manifest(tmp_path / "manifest.csv")
    assert table["class_id"].tolist() == original["class_id"].tolist()
    assert pd.read_csv(out / TABLE)["original"].tolist() == original["path"].tolist()
    small = original[["width", "height"]].min(axis=1) < 30
    assert (table[small][["width", "height"]].to_numpy() == [30, 20]).all()
    assert (table[~small][["width", "height"]].to_numpy() == [30, 40]).all()
    boxes = table[boxes].to_numpy()
    assert np.isnan(boxes[1]).all()
    assert boxes[2].tolist() == [3, 4, 15, 20]
    splits = [
        make_split(one, method="stratified", test_share=0.25, seed=42) for one in (table, original)
    ]
    pd.testing.assert_frame_equal(*splits)
    for path in table["path"]:
        with Image.open(out / path) as image:
            assert image.format == "JPEG"


# Order, and what is handed back.


def test_experiments_come_in_order_of_importance():
    """Would catch minutes that are spent on experiments of which the study needs least."""
    names = ["x", "SubCenterArcFace_cosine_resnet18_sgd_aug", "ArcFace_cosine_resnet18_sgd_aug"]
    study = SimpleNamespace(
        config={"baseline": "mine"},
        untrained=["start"],
        experiments=dict.fromkeys([*names, "mine", "start"]),
    )
    found = preparing.in_order_of_importance(study)
    assert found == ["mine", "start", names[2], names[1], "x"]


def finished(store, run, size, model):
    """A finished run in the store of a machine."""
    folder = store / "results" / jobs.place(run)
    folder.mkdir(parents=True)
    (folder / "embeddings.npz").write_bytes(bytes(size))
    (folder / "curves.csv").write_text("epoch,train_loss\n1,0.5\n")
    write_json(folder / "cost.json", {"total_seconds": 1})
    (folder / "model.pt").write_bytes(bytes(model))


def runs(*names):
    return [
        {"experiment": name, "seed": 42, "class_set": "all_classes", "recipe": {"epochs": 1}}
        for name in names
    ]


def handed_back(store, job, back, **options):
    found = machine.Machine(store, machine.Clock(1)).hand_back(
        job, back, part_bytes=50_000, total_bytes=200_000, **options
    )
    index = parts.index_of(back, f"back_{found['call']}")
    parts.unpack(back, index, back / "open")
    names = {path.relative_to(back / "open").as_posix() for path in (back / "open").rglob("*.*")}
    assert sum(part["bytes"] for part in index["parts"]) <= 200_000
    return found, sorted(name for name in names if name.endswith((".npz", ".pt")))


def test_what_comes_back_fits_and_comes_once(tmp_path):
    """Would catch results that are lost for lack of room, models before results, and files above a limit."""
    job = {"id": "1", "runs": runs("a", "b", "c", "d")}
    for run, size, model in zip(job["runs"], (90_000, 90_000, 300_000, 10), (50_000, 9, 9, 9), strict=True):  # fmt: skip
        finished(tmp_path / "store", run, size, model)
    at = "seed42/all_classes"
    found, names = handed_back(tmp_path / "store", job, tmp_path / "1")
    # c never fits; the model of a does not fit now.
    assert names == [f"{one}/{at}/embeddings.npz" for one in ("a", "b")] + [
        f"d/{at}/embeddings.npz"
    ]
    assert [one.split("/")[0] for one in found["left_there"]] == ["c", "a", "b", "c", "d"]
    found, names = handed_back(tmp_path / "store", job, tmp_path / "2")
    assert names == [f"{one}/{at}/model.pt" for one in "abcd"]
    assert [one.split("/")[0] for one in found["left_there"]] == ["c"]
    found, names = handed_back(tmp_path / "store", job, tmp_path / "3")
    assert names == []
    # What got lost on its way can be asked for again.
    found, names = handed_back(tmp_path / "store", job, tmp_path / "4", again=True, models=False)
    assert len(names) == 3


def test_failed_runs_say_why_and_do_not_stop_the_others(tmp_path, monkeypatch):
    """Would catch minutes that are lost to one training that diverges, in each call again."""
    monkeypatch.setattr(machine, "PROGRAMS", tmp_path)
    (tmp_path / "train.py").write_text(
        "import sys, pathlib\n"
        "name = sys.argv[sys.argv.index('--name') + 1]\n"
        "out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])\n"
        "if name == 'bad': sys.exit('the loss became nan')\n"
        "out.mkdir(parents=True, exist_ok=True)\n"
        "for file in ('embeddings.npz', 'model.pt', 'cost.json'): (out / file).write_text('{}')\n"
        "(out / 'curves.csv').write_text('epoch\\n1\\n')\n"
    )
    packs = {"train": "p", "test": "p", "code": "c", "weights": None}
    job = {"id": "1", "checkpoint_every": 1, "runs": [run | packs for run in runs("bad", "good")]}
    for _ in range(2):
        here = machine.Machine(tmp_path / "store", machine.Clock(60))
        here.train_all(job, None, 0)
        summary = here.hand_back(job, tmp_path / "back", part_bytes=10**6, total_bytes=10**6)
    states = {one["experiment"]: (one["state"], one["why"]) for one in summary["runs"]}
    assert states == {"bad": ("failed", "the loss became nan"), "good": ("finished", "")}
    # No time left: nothing begins.
    here = machine.Machine(tmp_path / "other", machine.Clock(5))
    here.train_all(job, None, 10)
    assert not (tmp_path / "other" / "results").exists()


def test_trainings_that_fail_at_the_same_time(tmp_path, monkeypatch):
    """Would catch a call that hands nothing back because two trainings failed together, or because one wrote
    bytes that are no text."""
    monkeypatch.setattr(machine, "PROGRAMS", tmp_path)
    (tmp_path / "train.py").write_text(
        "import sys\nsys.stderr.buffer.write(b'no f\\xfcr\\xe2\\x82')\nsys.exit(1)\n"
    )
    packs = {"train": "p", "test": "p", "code": "c", "weights": None}
    job = {"id": "1", "checkpoint_every": 1, "runs": [run | packs for run in runs(*"abcd")]}
    at_work, write_json = threading.Lock(), machine.write_json

    def slowly(path, value):
        assert at_work.acquire(blocking=False), "two threads write one file"
        time.sleep(0.1)
        write_json(path, value)
        at_work.release()

    monkeypatch.setattr(machine, "write_json", slowly)
    here = machine.Machine(tmp_path / "store", machine.Clock(60), at_once=4)
    here.train_all(job, None, 0)
    summary = here.hand_back(job, tmp_path / "back", part_bytes=10**6, total_bytes=10**6)
    assert {one["why"] for one in summary["runs"]} == {"no f\ufffdr\ufffd"}


def test_jobs_of_other_programs_are_refused(tmp_path, monkeypatch):
    """Would catch results of a program that nobody has, or of a job that somebody edited."""
    store = tmp_path / "store"
    job = {"runs": [], "programs": jobs.program_files()}
    write_json(store / "study" / jobs.NAME, {**job, "id": jobs.identity(job)})
    here = machine.Machine(store, machine.Clock(1))
    assert here.job()["runs"] == []
    monkeypatch.setattr(jobs, "program_files", lambda: "other")
    with pytest.raises(StudyError, match="not those that the trainings were prepared with"):
        here.job()
    write_json(store / "study" / jobs.NAME, {**job, "runs": [1], "id": jobs.identity(job)})
    with pytest.raises(StudyError, match="changed after it was written"):
        here.job()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": {"device": "auto", "epochs": 2}}, "the configuration has changed"),
        ({"train": "shorter99"}, "the configuration has changed"),
        ({"code": "other"}, "the code has changed"),
        ({"experiment": "renamed"}, "the configuration has changed"),
    ],
)
def test_results_of_another_recipe_are_refused(monkeypatch, change, words):
    """Would catch results that stand in a table under a recipe which they were not trained with."""
    (run,) = runs("a")
    run |= {"recipe": {"device": "auto", "epochs": 1}, "code": "c", "train": "p", "test": "p"}
    asked = []

    def now(changes):
        def runs_of(study, device):
            asked.append(device)
            return [{**run, **changes}], {}

        monkeypatch.setattr(preparing, "runs_of", runs_of)

    now({})
    preparing.check_unchanged(None, {"runs": [run]})
    assert asked == ["auto"]
    now(change)
    with pytest.raises(StudyError, match=words):
        preparing.check_unchanged(None, {"runs": [run]})


def test_only_whole_experiments_are_evaluated():
    """Would catch a table that waits for, or trains, the half of an experiment that did not come back."""
    both = [
        {**run, "class_set": name} for run in runs("a", "b", "start") for name in ("all", "limited")
    ]
    job = {
        "runs": both,
        "seeds": [42],
        "class_sets": ["all", "limited"],
        "untrained": {"start": "resnet18"},
    }
    complete = [run for run in both if (run["experiment"], run["class_set"]) != ("b", "limited")]
    names, changes = collecting.configuration(job, complete)
    assert names == ["a", "start"]
    assert changes == {"only": ["a"], "untrained": {"backbones": ["resnet18"]}}
    with pytest.raises(StudyError, match="no experiment is complete"):
        collecting.configuration(job, complete[:1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda arrays: arrays.update(query_image_ids=arrays["query_image_ids"][::-1]),
            "query images",
        ),
        (
            lambda arrays: arrays["gallery_embeddings"].fill(np.nan),
            "gallery embeddings are damaged",
        ),
        (lambda arrays: arrays.pop("query_embeddings"), "query images"),
    ],
)
def test_results_of_other_images_are_refused(tmp_path, change, words):
    """Would catch embeddings that belong to another split, or are none."""
    data = tmp_path / "r" / "data" / "birds"
    names = ["image_id", "path", "class_id", "class_name", "width", "height", "sha256"]
    rows = [[n, f"{n}.jpg", n % 2, f"c{n % 2}", 9, 9, str(n)] for n in range(8)]
    write_csv(data / "manifest.csv", pd.DataFrame(rows, columns=names))
    split = {"image_id": range(8), "part": ["train"] * 6 + ["test"] * 2}
    write_csv(data / "split.csv", pd.DataFrame(split))
    sets = {"class_set": "all_classes", "class_id": [0, 1], "seen": 1, "label": [0, 1]}
    write_csv(data / "class_sets" / "all_classes.csv", pd.DataFrame(sets))
    (run,) = runs("a")
    job = {"id": "1", "runs": [run], "results_dir": str(tmp_path / "r"), "dataset": "birds"}

    def arrive(folder, change):
        arrays = {
            "gallery_image_ids": np.arange(6),
            "gallery_embeddings": np.ones((6, 2), np.float32),
            "query_image_ids": np.arange(6, 8),
            "query_embeddings": np.ones((2, 2), np.float32),
        }
        change(arrays)
        store = tmp_path / folder
        finished(store, run, 1, 1)
        with open(store / "results" / jobs.place(run) / "embeddings.npz", "wb") as stream:
            np.savez(stream, **arrays)
        machine.Machine(store, machine.Clock(1)).hand_back(
            job, store / "back", part_bytes=10**6, total_bytes=10**6
        )
        return [store / "back"]

    with pytest.raises(StudyError, match=words):
        collecting.collect(job, arrive("bad", change))
    for number, content in enumerate((b"", b"PK\x03\x04 cut", b"no archive")):
        (came,) = arrive(f"broken{number}", lambda arrays: None)
        store = came.parent
        (store / "results" / jobs.place(run) / "embeddings.npz").write_bytes(content)
        machine.Machine(store, machine.Clock(1)).hand_back(
            job, store / "again", part_bytes=10**6, total_bytes=10**6, again=True
        )
        with pytest.raises(StudyError, match="a/seed42/all_classes: what came back cannot be read"):
            collecting.collect(job, [store / "again"])
    assert not (tmp_path / "r" / "experiments").exists()
    complete, without, last = collecting.collect(job, arrive("good", lambda arrays: None))
    assert (complete, without, last["call"]) == ([run], [], 1)
    assert json.loads(
        (tmp_path / "r" / "experiments" / jobs.place(run) / "cost.json").read_text()
    ) == {"total_seconds": 1}
