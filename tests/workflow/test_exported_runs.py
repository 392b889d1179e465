"""A run of a real study is exported: its files agree with each other, with the tables and with the study."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import run_program

from dmlstudy.core.files import file_digest, read_json
from dmlstudy.data.dataset import read_manifest
from dmlstudy.use.export import checking, folder
from dmlstudy.use.export.source import read_source
from dmlstudy.use.gallery import make_gallery
from dmlstudy.use.index_files import read_gallery, write_gallery

# A name with a plus, and a folder that a shell would take apart.
NAME = "EPSHN_cosine_resnet18+1dBN_sgd_aug"
ODD = "a study; $(x) 'été'"


class Exported:
    """The tiny study in a folder with an odd name, and the program that exports its runs."""

    def __init__(self, project):
        self.project = project
        self.data = project.result("data/tiny_birds")
        self.manifest = read_manifest(self.data / "manifest.csv")

    def run(self, class_set):
        return self.project.result(f"experiments/{NAME}/seed42/{class_set}")

    def index(self, class_set):
        """Write the run's index, as the workflow does."""
        run = self.run(class_set)
        with np.load(run / "embeddings.npz") as stored:
            gallery = make_gallery(
                dict(stored),
                self.manifest,
                np.ones(6, dtype=bool),
                model_sha256=file_digest(run / "model.pt"),
                accepted_share=0.9,
            )
        write_gallery(run / "index", gallery)

    def program(self, *arguments):
        """Run export.py in this process; returns (exit code, stdout, stderr)."""
        script = self.project.folder / "workflow/scripts/export.py"
        code, out, errors = run_program(script, *arguments)
        assert "Traceback" not in errors
        return code, out, errors


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """Both models of an experiment, exported; the limited one has an index."""
    one = Exported(finished.copy(tmp_path_factory.mktemp("exported") / ODD))
    one.index("limited_classes")
    for class_set in ("all_classes", "limited_classes"):
        code, out, errors = one.program("--run", one.run(class_set))
        assert code == 0, errors
        check = read_json(one.run(class_set) / "export" / "check.json")
        for name in ("model.onnx", "model.pt2"):
            value = check["differences"][name]["embeddings"]
            assert f"{name}: embeddings differs from torch by at most {value:.3g}" in out
            assert value <= 1e-3
        assert ("no threshold is in it" in out) == (class_set == "all_classes")
    return one


def copy_networks(run, place):
    """Put the networks of a run's export where another is written."""
    for name in ("model.onnx", "model.pt2", "model.safetensors"):
        shutil.copy(run / "export" / name, place)


def section(card, head):
    """The text below a heading of a card."""
    return card.split(f"## {head}\n", 1)[1].split("\n## ", 1)[0]


def rows_of(text):
    """The rows of the Markdown table in a text, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("class_set", ["all_classes", "limited_classes"])
def test_figures_of_the_card_are_those_of_the_tables(exported, class_set):
    """Would catch a figure of another metric or model, of another interval, or typed by hand."""
    run = exported.run(class_set)
    card = (run / "export/model_card.md").read_text(encoding="utf-8")
    table = pd.read_csv(run.parents[1] / "summary.csv").set_index("metric")
    rows = rows_of(section(card, "Figures"))
    assert len(rows) >= 7
    for name, _, value, interval, queries, classes in rows:
        row = table.loc[name.strip("`")]
        limited = name.strip("`").startswith(("limited_", "precision_drop_"))
        assert limited == (class_set == "limited_classes")
        assert value == f"{100 * row['value']:.2f} %"
        ends = [] if np.isnan(row["low"]) else [row["low"], row["high"]]
        assert [float(one) for one in re.findall(r"-?[\d.]+", interval)] == pytest.approx(
            [100 * end for end in ends], abs=0.0051
        )
        assert [float(queries), float(classes)] == [row["queries"], row["classes"]]
    judged = pd.read_csv(run.parents[1] / "rejection_thresholds.csv")
    judged = judged[judged["model"] == class_set].reset_index(drop=True)
    rows = rows_of(section(card, '"Unknown"'))
    assert len(rows) == len(judged) > 0
    for cells, row in zip(rows, judged.itertuples(), strict=True):
        assert float(cells[3]) == row.threshold
        assert cells[6] == f"{100 * row.accepted_unknown_classes:.2f} %"
    measured = read_json(run / "export/thresholds.json")["measured"]
    assert [one["accepted_seen_classes"] for one in measured] == judged[
        "accepted_seen_classes"
    ].tolist()


def test_thresholds_and_classes_are_those_of_the_study(exported):
    """Would catch a threshold of another index, unseen classes that are not, or another gallery."""
    run = exported.run("limited_classes")
    gallery = read_gallery(run / "index", run / "model.pt")
    found = read_json(run / "export/thresholds.json")
    assert found["chosen"] == gallery.metadata["threshold"]
    assert found["score"] == "similarity"
    assert read_json(exported.run("all_classes") / "export/thresholds.json")["chosen"] is None
    listed = read_json(run / "export/classes.json")
    names = exported.manifest.drop_duplicates("class_id")["class_name"].tolist()
    assert [one["name"] for one in listed["classes"]] == names
    assert [one["seen"] for one in listed["classes"]] == [True] * 4 + [False] * 2
    assert listed["logits_class_ids"] is None
    with np.load(run / "export/gallery.npz") as stored:
        np.testing.assert_array_equal(stored["embeddings"], gallery.embeddings)
        np.testing.assert_array_equal(stored["class_ids"], gallery.table["class_id"])


def test_code_of_the_card_names_queries_as_the_study_does(exported, tmp_path):
    """Would catch code that nobody ran, preprocessing that differs, or an export that needs this project."""
    run = exported.run("limited_classes")
    moved = tmp_path / "moved here"
    shutil.copytree(run / "export", moved)
    card = (moved / "model_card.md").read_text(encoding="utf-8")
    (moved / "example.py").unlink()
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    (moved / "of_the_card.py").write_text(code, encoding="utf-8")
    queries = pd.read_csv(run / "queries.csv")
    names = exported.manifest.drop_duplicates("class_id")["class_name"].tolist()
    photos = [exported.data / "images" / exported.manifest["path"][i] for i in queries["image_id"]]
    done = subprocess.run(
        [sys.executable, moved / "of_the_card.py", *photos],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    threshold = read_json(moved / "thresholds.json")["chosen"]["similarity"]
    assert len(lines) == len(photos)
    for line, photo, row in zip(lines, photos, queries.itertuples(), strict=True):
        name = names[row.nearest_class_id]
        if row.similarity < threshold:
            name = f"unknown (would be {name})"
        assert line.startswith(f"{photo}: {name}; similarity ")
        assert float(line.rpartition(" ")[2]) == pytest.approx(row.similarity, abs=1e-4)


def test_nothing_of_this_machine_is_in_an_export(exported):
    """Would catch paths of this machine in what is passed on."""
    made = exported.run("all_classes") / "export"
    for path in made.iterdir():
        content = path.read_bytes()
        assert str(exported.project.folder).encode() not in content, path.name
        for part in (b"/workflow/scripts/", b"/site-packages/", b"/export/networks.py"):
            assert part not in content, path.name
    assert {oct(path.stat().st_mode & 0o777) for path in made.iterdir()} == {"0o644"}


def test_export_that_fails_leaves_the_earlier_one(exported, monkeypatch):
    """Would catch half an export, or one whose check failed."""
    run = exported.run("all_classes")
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    monkeypatch.setattr(checking, "LIMIT", -1)
    # Writing them again would only take time.
    monkeypatch.setattr(folder, "write_networks", lambda *rest: copy_networks(run, rest[-1]))
    code, _, errors = exported.program("--run", run)
    assert code == 1
    assert "model.onnx: embeddings differs from torch by up to" in errors
    assert {path.name: path.read_bytes() for path in (run / "export").iterdir()} == before
    assert [path.name for path in run.glob(".export*")] == []


def test_what_is_missing_or_of_others_is_told(exported, tmp_path):
    """Would catch a traceback, or an export of a model with the tables of another."""
    run = exported.run("limited_classes")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").touch()
    code, _, errors = exported.program("--run", run, "--out", photos)
    assert (code, (photos / "a.jpg").exists()) == (1, True)
    assert "holds other files (a.jpg)" in errors
    other = tmp_path / "results/experiments/one/seed42/limited_classes"
    shutil.copytree(run, other)
    code, _, errors = exported.program("--run", other)
    assert code == 1
    assert "summary.csv: missing" in errors
    for path in run.parents[1].glob("*.*"):
        shutil.copy(path, other.parents[1])
    code, _, errors = exported.program("--run", other)
    assert code == 1
    assert "give the folder of the data set" in errors
    assert read_source(other, exported.data).experiment == NAME
    stored = torch.load(other / "model.pt", weights_only=True)
    stored["class_ids"] = [0, 1, 2, 4]
    torch.save(stored, other / "model.pt")
    shutil.rmtree(other / "index")
    code, _, errors = exported.program("--run", other, "--data", exported.data)
    assert code == 1
    assert "its classes are not those of" in errors
