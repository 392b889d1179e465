"""Weights & Biases in whole runs: offline by default, never an obstacle."""

import json
import os
import subprocess
import sys
from pathlib import Path

FAKE_KEY = "0123456789abcdef0123456789abcdef01234567"
ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
RUN = f"experiments/{ARCFACE}/seed42/limited_classes"


def tracked_jobs(project):
    return sorted(
        f"Track {path.parents[2].name} (limited_classes, seed 42)"
        for path in project.result("experiments").glob("*/seed42/limited_classes/tracking.json")
    )


def test_whole_study_is_tracked_offline(finished, tmp_path):
    """Would catch a run without a folder, or with one in the working directory."""
    results = [
        json.loads(path.read_text())
        for path in finished.result("experiments").glob("*/seed42/limited_classes/tracking.json")
    ]
    assert len(results) == 5
    assert {result["problem"] for result in results} == {None}
    assert len({result["id"] for result in results}) == 5
    folders = {(finished.folder / result["folder"]).name for result in results}
    assert folders == {path.name for path in finished.result("tracking/wandb").iterdir()}
    assert not (finished.folder / "wandb").exists()
    one = next(result for result in results if ARCFACE in result["name"])
    command = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", one["folder"]]
    # W&B's reader writes a log into the system's folder for temporary files.
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=finished.folder, env=env, check=True, capture_output=True, text=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    curve = [r["history"]["item"] for r in found if "history" in r and "epoch" in str(r)]
    assert curve[0]["epoch"] == 1
    assert {"train_loss", "test_accuracy", "train_loss2", "test_accuracy2"} <= curve[0].keys()
    summary = {k: v for r in found for k, v in r.get("summary", {}).get("update", {}).items()}
    scalars = json.loads(finished.result(f"{RUN}/scalars.json").read_text())
    for name in ("unseen", "seen", "all"):
        key = f"precision_drop_{name}_classes"
        assert summary[key] == scalars[key]


def test_study_leaves_nothing_in_the_systems_temporary_folder(project, tmp_path, monkeypatch):
    """Would catch folders of W&B (eight for each run), or of any other job, that stay behind."""
    system = tmp_path / "system"
    system.mkdir()
    monkeypatch.setenv("TMPDIR", str(system))
    (project.result(f"{RUN}/tracking.json")).unlink()
    weights = f"results/tiny/{RUN}/model.pt"
    text = project.snakemake("--forcerun", weights, "index_page", "report_page")
    for rule in ("train", "track", "index_page", "report_page"):
        assert f"(Rule: {rule})" in text
    # Torch has one cache for each user, which stays the same however often it is used.
    left = [path.name for path in system.iterdir() if not path.name.startswith("torchinductor_")]
    assert left == []
    assert list(project.result("tracking").glob(".temporary.*")) == []


def test_switching_the_tracker_trains_nothing(project):
    """Would catch a training that runs again because the settings of the tracker changed."""
    jobs = tracked_jobs(project)
    for change in ({"mode": "online"}, {"project": "Another"}, {"entity": "somebody"}):
        project.change_yaml(
            "tests/workflow/tiny.yaml", lambda config, change=change: config.update(tracking=change)
        )
        assert project.planned() == jobs
    project.change_yaml(
        "tests/workflow/tiny.yaml", lambda config: config.update(tracking={"mode": "disabled"})
    )
    assert project.planned() == []


def test_online_without_a_server_trains_the_same_and_tells_nobody_the_key(
    project, tmp_path, monkeypatch
):
    """Would catch a study that an unreachable server stops or changes, or a key in a log or page."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_API_KEY", FAKE_KEY)
    # No server listens there; nothing leaves this machine.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    project.change_yaml(
        "tests/workflow/tiny.yaml", lambda config: config.update(tracking={"mode": "online"})
    )
    weights = project.result(f"{RUN}/model.pt")
    before = weights.read_bytes()
    text = project.snakemake(
        f"results/tiny/{RUN}/tracking.json",
        "--printshellcmds",
        "--forcerun",
        f"results/tiny/{RUN}/model.pt",
    )
    assert "track.py" in text
    assert weights.read_bytes() == before
    result = json.loads(project.result(f"{RUN}/tracking.json").read_text())
    assert "connection refused" in result["problem"]
    for name in ("train", "track"):
        log = project.result(f"logs/{name}/{ARCFACE}_seed42_limited_classes.log").read_text()
        assert log.count("Weights & Biases") == 1
    assert FAKE_KEY not in text
    key = FAKE_KEY.encode()
    for folder in (project.folder, home):
        assert [p for p in folder.rglob("*") if p.is_file() and key in p.read_bytes()] == []
