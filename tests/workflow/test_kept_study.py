"""A finished study is copied for the documentation, and the page is written from the copy."""

import json
import socket
import subprocess
import sys

import pandas as pd
import pytest
from tiny_study import PROJECT

from dmlstudy.pages.results import page

BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
PROGRAM = PROJECT / "workflow" / "scripts" / "write_results.py"


def write_results(docs, *arguments, ok=True):
    """Run the program for the project folder ``docs``; what it printed."""
    command = [sys.executable, PROGRAM, "--project", docs, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def documented(tmp_path):
    """A project folder with a README that has the markers."""
    (tmp_path / "documented" / "docs").mkdir(parents=True)
    (tmp_path / "documented" / "README.md").write_text(f"{page.BEGIN}\n{page.END}\n")
    return tmp_path / "documented"


def test_finished_study_is_kept_and_told(finished, documented, tmp_path):
    """Would catch copies that are large, name a machine or differ from the study, and wrong comparisons."""
    results = finished.result("")
    write_results(documented, "--add", results, "--name", "tiny")
    files = {path: path.read_bytes() for path in documented.rglob("*") if path.is_file()}
    for path, content in files.items():
        assert path.suffix in (".csv", ".json", ".svg", ".md"), path
        assert len(content) < 100_000, path
        for word in (str(finished.folder), str(tmp_path), socket.gethostname()):
            assert word.encode() not in content, (path, word)
    folder = documented / "docs" / "results" / "tiny"
    study = json.loads((folder / "study.json").read_text())
    assert study["dataset"] | {"classes": 6, "unseen_classes": 2, "drawn": True} == study["dataset"]
    assert study["seeds"] == [42]
    assert study["baseline"] == BASELINE
    entry = study["experiments"][BASELINE]
    assert entry["like"] == BASELINE
    assert ["epochs", 100, 1] in entry["changes"]
    assert entry["weights"] == "pretrained on other synthetic species (trained by the study)"

    # The features before training: the same queries, computed here by hand.
    differences = pd.read_csv(folder / "differences.csv")
    row = differences[
        (differences["experiment"] == BASELINE)
        & (differences["role"] == "untrained")
        & (differences["metric"] == "precision_at_1")
    ].iloc[0]
    correct = [
        pd.read_csv(finished.result(f"experiments/{name}/seed42/all_classes/queries.csv"))[
            "correct"
        ]
        for name in (BASELINE, row["compared_with"])
    ]
    assert row["difference"] == pytest.approx(correct[0].mean() - correct[1].mean(), abs=1e-6)
    # Only experiments that start from these weights are compared with them.
    pairs = differences[differences["role"] == "untrained"]["experiment"].unique()
    assert "EPSHN_cosine_resnet18_classifier_sgd_aug" not in pairs

    text = (documented / "docs" / "results.md").read_text()
    assert "## tiny_birds: drawn images (`tiny`)" in text
    assert "docs/results/tiny/answer.svg" in (documented / "README.md").read_text()
    write_results(documented, "--check")

    # The same study again gives the same bytes.
    write_results(documented, "--add", results, "--name", "tiny")
    assert {path: path.read_bytes() for path in files} == files


def test_unfinished_study_is_refused(project, documented):
    """Would catch half a study in the documentation, or a traceback."""
    folder = documented / "docs" / "results"
    assert "is the study finished?" in write_results(
        documented, "--add", project.folder / "nowhere", ok=False
    )
    lost = project.result("comparison/differences.csv")
    table = pd.read_csv(lost)
    table[table["role"] != "untrained"].to_csv(lost, index=False)
    text = write_results(documented, "--add", project.result(""), ok=False)
    assert f"{lost}: was made by an earlier version" in text
    lost.unlink()
    text = write_results(documented, "--add", project.result(""), ok=False)
    assert f"{lost}: not there; is the study finished?" in text
    assert "Traceback" not in text
    assert not folder.exists()


def test_finished_study_can_be_compared_with_others(finished, tmp_path):
    """Would catch a results folder that is read otherwise than its kept tables, or that is written to."""
    results = finished.result("")
    before = {path: path.lstat().st_mtime_ns for path in results.rglob("*")}
    command = [sys.executable, PROGRAM.with_name("compare_studies.py"), results]
    done = subprocess.run(
        [*command, "--out", tmp_path / "compared"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "k = 1: one study says nothing about other data" in done.stdout
    assert {path: path.lstat().st_mtime_ns for path in results.rglob("*")} == before
    rows = pd.read_csv(tmp_path / "compared" / "studies.csv")
    metrics = pd.read_csv(finished.result("comparison/metrics.csv"))
    drops = metrics[metrics["metric"] == "precision_drop_unseen_classes"].set_index("experiment")
    own = rows[rows["question"] == "drop on unseen classes"].set_index("experiment")
    assert BASELINE in own.index
    assert own["value"].to_dict() == drops.loc[own.index, "value"].to_dict()
    assert (rows["data"] == "tiny_birds (synthetic)").all()
    assert "trained minus untrained" in set(rows["question"])
