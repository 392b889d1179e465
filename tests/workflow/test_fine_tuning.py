"""A vision transformer of which parts train goes through a whole study, by configuration alone."""

import contextlib
import io
import runpy
import sys

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from dmlstudy.core.files import file_digest, read_json
from dmlstudy.data.dataset import read_manifest
from dmlstudy.explain.heatmap_files import load_heatmaps

BASE = "EPSHN_cosine_resnet18_sgd_aug"
TUNED = {
    "ViT_lora": {"kind": "lora", "rank": 2},
    "ViT_last": {"kind": "last_blocks", "blocks": 2},
}
RATES = {
    "backbone_lr": 0.01,
    "clip_gradients": 1.0,
    "optimizer": {"kind": "adamw", "lr": 0.001},
    "schedule": {"kind": "cosine", "warmup": 1},
}


def add_entries(config):
    config["experiments"] = {
        name: {
            "like": BASE,
            "backbone": "timm/test_vit",
            "initializer": "scratch",
            "epochs": 2,
            "trained_parts": parts,
            **RATES,
        }
        for name, parts in TUNED.items()
    }
    config["only"] += list(TUNED)
    # Its jobs would say nothing of parts.
    config["tracking"] = {"mode": "disabled"}


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """The finished tiny study with two fine-tuned transformers; what was planned, and old models' bytes."""
    project = finished.copy(tmp_path_factory.mktemp("fine_tuning") / "project")
    project.change_yaml("tests/workflow/tiny.yaml", add_entries)
    models = {
        path: file_digest(path) for path in project.result("experiments").glob("*/*/*/model.pt")
    }
    planned = project.planned()
    run = "results/tiny/experiments/{}/seed42/all_classes/index"
    project.snakemake("all", *map(run.format, TUNED))
    return project, planned, models


def test_entries_with_parts_train_alone(tuned):
    """Would catch a new key that trains old experiments again."""
    project, planned, models = tuned
    assert {job for job in planned if job.startswith(("Train ", "Pretrain "))} == {
        f"Train {name} ({class_set}, seed 42)"
        for name in TUNED
        for class_set in ("all_classes", "limited_classes")
    }
    assert len(models) == 10
    assert all(file_digest(path) == digest for path, digest in models.items())
    assert project.planned() == []


@pytest.mark.parametrize("name", TUNED)
def test_a_model_of_which_parts_train_is_a_plain_one(tuned, name):
    """Would catch a model.pt with names of low-rank changes, or a step that only knows whole trainings."""
    project, _, _ = tuned
    folder = project.result(f"experiments/{name}")
    plain = timm.create_model("test_vit", num_classes=0, img_size=32)
    for class_set in ("all_classes", "limited_classes"):
        run = folder / "seed42" / class_set
        stored = torch.load(run / "model.pt", weights_only=True)
        kind = stored["recipe"]["trained_parts"]["kind"]
        assert kind == TUNED[name]["kind"]
        assert stored["recipe"]["backbone_lr"] == 0.01
        backbone = {
            key.removeprefix("backbone."): value
            for key, value in stored["model"].items()
            if key.startswith("backbone.")
        }
        plain.load_state_dict(backbone)
        assert np.isfinite(np.load(run / "embeddings.npz")["gallery_embeddings"]).all()
        assert 0 <= read_json(run / "summary.json")["precision_at_1"] <= 1
    heat = load_heatmaps(folder / "seed42" / "heatmaps")
    assert heat.maps.shape[1:] == (2, 2)
    assert heat.maps.max() == 255
    page = (folder / "report.html").read_text()
    assert TUNED[name]["kind"] in page
    table = pd.read_csv(project.result("comparison/experiments.csv")).set_index("experiment")
    assert f"trained parts {TUNED[name]['kind']}" in table.loc[name, "details"]


@pytest.mark.parametrize("name", TUNED)
def test_a_photo_is_named_as_in_the_study(tuned, name, tmp_path, monkeypatch):
    """Would catch embeddings of a run that its stored weights do not give."""
    project, _, _ = tuned
    run = project.result(f"experiments/{name}/seed42/all_classes")
    manifest = read_manifest(project.result("data/tiny_birds/manifest.csv"))
    queries = pd.read_csv(run / "queries.csv").head(5)
    images = project.result("data/tiny_birds/images")
    photos = [str(images / manifest["path"][i]) for i in queries["image_id"]]
    script = str(project.folder / "workflow/scripts/name_photos.py")
    options = ["--run", str(run), "--csv", str(tmp_path / "a.csv"), *photos]
    monkeypatch.setattr(sys, "argv", [script, *options])
    with contextlib.redirect_stdout(io.StringIO()):
        runpy.run_path(script, run_name="__main__")
    answers = pd.read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(answers["similarity"], queries["similarity"], rtol=0, atol=2e-6)
