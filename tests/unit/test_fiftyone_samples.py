"""Samples for FiftyOne, and the program's messages if FiftyOne or its database is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import TinyStudy, unit

from dmlstudy.use.fiftyone_samples import samples

PROJECT = Path(__file__).resolve().parents[2]
PROGRAM = PROJECT / "workflow" / "scripts" / "to_fiftyone.py"
WITH_FIFTYONE = PROJECT / ".venv-fiftyone" / "bin" / "python"


@pytest.fixture
def study(tmp_path):
    study = TinyStudy(tmp_path)
    study.images = tmp_path / "images"
    return study


def drawn(study, class_set="limited_classes", *, softmax=False):
    """Random embeddings of a study's images."""
    dataset = study.dataset(class_set)
    rng = np.random.default_rng(3)
    embeddings = {}
    for part, name in (("gallery", "train"), ("query", "test")):
        ids = dataset.images(name)
        embeddings[f"{part}_image_ids"] = ids
        embeddings[f"{part}_embeddings"] = unit(rng, len(ids), 8)
    if softmax:
        embeddings["query_softmax_class_ids"] = dataset.class_ids[dataset.images("test")][::-1]
    return dataset, embeddings


def test_neighbours_are_those_of_a_plain_loop(study):
    """Would catch rows taken for image ids, similarities of other pairs, a vote of other neighbours."""
    dataset, embeddings = drawn(study, softmax=True)
    rows = list(samples(study.manifest, dataset, embeddings, study.images, neighbours=3))
    assert [row["image_id"] for row in rows] == study.manifest["image_id"].tolist()
    names = study.manifest.set_index("image_id")["class_name"]
    gallery = list(
        zip(embeddings["gallery_image_ids"], embeddings["gallery_embeddings"], strict=True)
    )
    for position, (image, vector) in enumerate(
        zip(embeddings["query_image_ids"], embeddings["query_embeddings"], strict=True)
    ):
        near = sorted(((float(vector @ other), other_id) for other_id, other in gallery))[::-1][:3]
        row = rows[image]
        assert [other for other, _, _ in row["neighbours"]] == [other for _, other in near]
        assert [name for _, name, _ in row["neighbours"]] == [names[other] for _, other in near]
        np.testing.assert_allclose(
            [value for _, _, value in row["neighbours"]], [value for value, _ in near], atol=1e-6
        )
        assert row["correct"] == (names[near[0][1]] == names[image])
        classes = [names[other] for _, other in near]
        assert row["vote"][1] == pytest.approx(classes.count(row["vote"][0]) / 3)
        assert classes.count(row["vote"][0]) == max(map(classes.count, classes))
        assert row["softmax"] == names[embeddings["query_image_ids"][::-1][position]]
        np.testing.assert_array_equal(row["embedding"], vector)


def test_parts_unseen_classes_boxes_and_places(study):
    """Would catch a gallery image with a prediction, seen and unseen swapped, boxes in pixels."""
    dataset, embeddings = drawn(study)
    manifest = study.manifest.assign(box_x=8.0, box_y=4.0, box_height=1.0)
    manifest["box_width"] = manifest["width"] / 2
    manifest.loc[1, ["box_x", "box_y", "box_width", "box_height"]] = np.nan
    coordinates = pd.DataFrame({"image_id": [0], "x": [1.5], "y": [-2.0]})
    rows = list(samples(manifest, dataset, embeddings, study.images, coordinates=coordinates))
    for row, part in zip(rows, dataset.parts, strict=True):
        assert row["part"] == part
        assert (row["neighbours"] is None) == (part == "train")
        assert row["unseen"] == (not dataset.seen[dataset.class_ids[row["image_id"]]])
        assert Path(row["path"]).is_file()
    width, height = manifest.loc[0, ["width", "height"]]
    assert rows[0]["box"] == pytest.approx((8 / width, 4 / height, 0.5, 1 / height))
    assert rows[1]["box"] is None
    assert rows[0]["coordinates"] == (1.5, -2.0)
    assert rows[1]["coordinates"] is None


def test_program_says_where_fiftyone_is_to_be_had():
    """Would catch a traceback of the import if FiftyOne is not installed."""
    command = [sys.executable, PROGRAM, "--run", "results/experiments/x/seed42/all_classes"]
    done = subprocess.run(command, text=True, capture_output=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "make env-fiftyone" in done.stderr


# With FiftyOne itself, in its own environment.

CONVERT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import fiftyone, numpy, to_fiftyone
for values in json.load(sys.stdin):
    if values["embedding"]:
        values["embedding"] = numpy.array(values["embedding"], dtype=numpy.float32)
    sample = to_fiftyone.to_sample(fiftyone, values)
    found = sample.to_dict()
    if values["embedding"] is not None:
        found["embedding"] = sample["embedding"].tolist()
    print(json.dumps(found, default=str))
"""


def with_fiftyone(arguments, home, **options):
    """Run FiftyOne's interpreter; its settings and files stay in ``home``."""
    if not WITH_FIFTYONE.exists():
        if os.environ.get("DML_REQUIRE_FIFTYONE"):
            pytest.fail("DML_REQUIRE_FIFTYONE is set, but there is no .venv-fiftyone")
        pytest.skip("needs FiftyOne: make env-fiftyone")
    environment = {**os.environ, "HOME": str(home)}
    command = [WITH_FIFTYONE, *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, **options)


def test_samples_of_fiftyone_hold_what_the_run_says(study, tmp_path):
    """Would catch fields that FiftyOne drops, a box in another order, neighbours without ids."""
    dataset, embeddings = drawn(study, softmax=True)
    manifest = study.manifest.assign(box_x=8.0, box_y=4.0, box_width=2.0, box_height=1.0)
    rows = list(samples(manifest, dataset, embeddings, study.images, neighbours=3))
    text = json.dumps(rows, default=lambda value: value.tolist())
    arguments = ["-c", CONVERT, PROGRAM.parent]
    done = with_fiftyone(arguments, tmp_path, input=text, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(rows)
    for row, sample in zip(rows, found, strict=True):
        assert sample["filepath"] == row["path"]
        assert sample["image_id"] == row["image_id"]
        assert sample["ground_truth"]["label"] == row["class_name"]
        assert sample["tags"] == [row["part"], f"{'un' * row['unseen']}seen class"]
        assert sample["box"]["detections"][0]["bounding_box"] == list(row["box"])
        np.testing.assert_array_equal(np.float32(sample["embedding"]), row["embedding"])
        if row["neighbours"] is None:
            assert "nearest" not in sample
            assert "correct" not in sample
            continue
        assert sample["nearest"]["label"] == row["neighbours"][0][1]
        assert sample["nearest"]["confidence"] == row["neighbours"][0][2]
        assert sample["correct"] == row["correct"]
        assert [sample["vote"]["label"], sample["vote"]["confidence"]] == list(row["vote"])
        near = sample["neighbours"]["classifications"]
        assert [(other["image_id"], other["label"], other["confidence"]) for other in near] == row[
            "neighbours"
        ]
        assert sample["softmax"]["label"] == row["softmax"]


def test_run_that_is_not_there_is_said_in_a_line(tmp_path):
    """Would catch a traceback for a mistyped folder."""
    done = with_fiftyone([PROGRAM, "--run", "results/experiments/typo"], tmp_path)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "contains no embeddings.npz" in line


def test_program_says_in_a_line_that_there_is_no_database(study, tmp_path, monkeypatch):
    """Would catch a traceback, or an incomplete data set, if MongoDB is missing."""
    results = tmp_path / "results"
    run = results / "experiments" / "x" / "seed42" / "limited_classes"
    run.mkdir(parents=True)
    np.savez(run / "embeddings.npz", **drawn(study)[1])
    data = results / "data" / "tiny"
    (data / "class_sets").mkdir(parents=True)
    study.manifest.to_csv(data / "manifest.csv", index=False)
    study.split.to_csv(data / "split.csv", index=False)
    study.class_sets["limited_classes"].to_csv(
        data / "class_sets" / "limited_classes.csv", index=False
    )
    (results / "study.json").write_text('{"dataset": "tiny"}')
    # No server listens at port 9, even if this machine has a database.
    monkeypatch.setenv(
        "FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=100"
    )
    done = with_fiftyone([PROGRAM, "--run", run, "--images", study.images], tmp_path)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "FiftyOne's database (MongoDB) cannot be started here" in errors[0]
    assert "Traceback" not in done.stderr
