"""Backbones of every family go through a whole study, by configuration alone."""

import contextlib
import io
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from dmlstudy.core.files import file_digest, read_json
from dmlstudy.data.dataset import read_manifest
from dmlstudy.explain.heatmap_files import load_heatmaps
from dmlstudy.use.index_files import read_gallery

BASE = "EPSHN_cosine_resnet18_sgd_aug"
VIT = "timm/test_vit"
# Row of the table → backbone, what it starts from, its width and the side of its heat maps.
NEW = {
    "ResNet50": ("resnet50", "scratch", 2048, 4),
    "MobileNetV2": ("torchvision/mobilenet_v2", "ours", 1280, 4),
    "ConvNeXt": ("timm/test_convnext", "scratch", 64, 4),
    # Pictures of 32 pixels are two patches wide.
    "ViT": (VIT, "ours", 64, 2),
}
UNTRAINED = "other_species_timm-test_vit"
PACKS = ["shorter32", "shorter32_bicubic", "shorter35", "shorter35_bicubic"]


def write_weights(folder):
    """Two files of somebody's own weights, as training programs leave them."""
    folder.mkdir()
    torch.manual_seed(0)
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    state = {f"module.{key}": value for key, value in state.items()}
    torch.save({"state_dict": state, "epoch": 90}, folder / "mobilenet.pth")
    # Made for images of 160 pixels.
    save_file(timm.create_model("test_vit").state_dict(), folder / "vit.safetensors")


def add_backbones(config):
    """Experiments and an initializer more, in the tiny study's configuration."""
    config["initializers"]["ours"] = {
        "kind": "file",
        "label": "our weights",
        "weights": {
            "torchvision/mobilenet_v2": "weights/mobilenet.pth",
            VIT: "weights/vit.safetensors",
        },
    }
    config["experiments"] = {
        name: {"like": BASE, "backbone": backbone, "initializer": start}
        for name, (backbone, start, _, _) in NEW.items()
    }
    config["untrained"]["backbones"].append(VIT)
    config["only"] += list(NEW)
    # Its jobs would say nothing of backbones.
    config["tracking"] = {"mode": "disabled"}


def bytes_of(project, *patterns):
    """{path: digest} of what the study has made so far."""
    root = project.result("")
    return {
        str(path.relative_to(root)): file_digest(path)
        for pattern in patterns
        for path in root.glob(pattern)
    }


@pytest.fixture(scope="module")
def studied(finished, tmp_path_factory):
    """The finished tiny study with all families added and run; what was planned, and old files' bytes."""
    project = finished.copy(tmp_path_factory.mktemp("backbones") / "project")
    write_weights(project.folder / "weights")
    project.change_yaml("tests/workflow/tiny.yaml", add_backbones)
    before = bytes_of(project, "experiments/*/seed42/*/model.pt", "data/*/pack_*/pixels.bin", "initializers/**/*.weights")  # fmt: skip
    planned = project.planned()
    run = "results/tiny/experiments/{}/seed42/all_classes/index"
    project.snakemake("all", *map(run.format, NEW))
    return project, planned, before


def test_backbones_by_configuration_retrain_nothing(studied):
    """Would catch a family that needs code, or whose coming trains what exists again."""
    project, planned, before = studied
    trained = {job for job in planned if job.startswith(("Train ", "Pretrain ", "Get weights"))}
    assert trained == {
        *(
            f"Train {name} ({class_set}, seed 42)"
            for name in (*NEW, UNTRAINED)
            for class_set in ("all_classes", "limited_classes")
        ),
        f"Pretrain {VIT}: other_species (all_classes, seed 42)",
        "Get weights of torchvision/mobilenet_v2: ours",
        f"Get weights of {VIT}: ours",
    }
    decoded = {job for job in planned if job.startswith("Decode tiny_birds")}
    assert decoded == {
        f"Decode tiny_birds once, resized as {name}" for name in PACKS if "bicubic" in name
    }
    after = bytes_of(project, "**/model.pt", "**/pixels.bin", "**/*.weights")
    assert len(before) > 10
    assert {path: after[path] for path in before} == before
    # Nothing is left to be done, and what is known of the backbones is not asked for again.
    memory = project.result(".backbones.json")
    known = memory.read_bytes(), memory.stat().st_mtime_ns
    assert project.planned() == []
    assert (memory.read_bytes(), memory.stat().st_mtime_ns) == known


@pytest.mark.parametrize("name", NEW)
def test_each_family_is_trained_evaluated_explained_and_reported(studied, name):
    """Would catch a step of the study that only knows ResNets."""
    project, _, _ = studied
    backbone, start, _, side = NEW[name]
    folder = project.result(f"experiments/{name}")
    interpolation = "_bicubic" if backbone.startswith("timm") else ""
    for class_set in ("all_classes", "limited_classes"):
        run = folder / "seed42" / class_set
        stored = torch.load(run / "model.pt", weights_only=True)
        assert stored["recipe"]["backbone"] == backbone
        assert stored["test_resize"] == f"shorter32{interpolation}"
        half = [0.5, 0.5, 0.5]
        assert (stored["mean"] == half) == backbone.startswith("timm")
        with np.load(run / "embeddings.npz") as embeddings:
            assert np.isfinite(embeddings["gallery_embeddings"]).all()
            assert embeddings["query_embeddings"].std() > 0
        assert 0 <= read_json(run / "summary.json")["precision_at_1"] <= 1
    heat = load_heatmaps(folder / "seed42" / "heatmaps")
    assert heat.maps.shape[1:] == (side, side)
    assert heat.maps.max() == 255
    page = (folder / "report.html").read_text()
    assert backbone in page
    table = pd.read_csv(project.result("comparison/experiments.csv")).set_index("experiment")
    label = {"ours": "our weights", "scratch": "random weights"}[start]
    assert backbone in table.loc[name, "details"]
    assert label in table.loc[name, "details"]
    assert name in project.result("comparison/index.html").read_text()


def test_weights_of_ones_own_reach_the_runs(studied):
    """Would catch files that are fetched and not used, or an untrained row of other features."""
    project, _, _ = studied
    ours = project.result("initializers/ours")
    assert {path.name for path in ours.glob("[!.]*")} == {
        f"{name}.weights{end}"
        for name in ("torchvision-mobilenet_v2", "timm-test_vit")
        for end in ("", ".sha256", ".json")
    }
    assert read_json(ours / "timm-test_vit.weights.json")["local"] == "vit.safetensors"
    log = (project.result("logs/train/MobileNetV2_seed42_all_classes.log")).read_text()
    assert "are under state_dict module.…" in log
    assert "left out the classifier: classifier.1.weight, classifier.1.bias" in log
    # A few steps of a small learning rate from there.
    given = torch.load(project.folder / "weights/mobilenet.pth", weights_only=True)["state_dict"]
    run = project.result("experiments/MobileNetV2/seed42/all_classes/model.pt")
    found = torch.load(run, weights_only=True)["model"]["backbone.features.7.conv.2.weight"]
    assert 0 < (found - given["module.features.7.conv.2.weight"]).abs().max() < 0.05
    row = project.result(f"experiments/{UNTRAINED}/seed42/all_classes/model.pt")
    pretrained = torch.load(
        project.result("initializers/other_species/all_classes/seed42/timm-test_vit.weights"),
        weights_only=True,
    )
    untrained = torch.load(row, weights_only=True)["model"]
    assert torch.equal(untrained["backbone.pos_embed"], pretrained["pos_embed"])


def program(project, name, *arguments):
    """Run a program in this process, where torch is there already; returns what it says."""
    script = str(project.folder / "workflow/scripts" / name)
    out, before = io.StringIO(), sys.argv
    sys.argv = [script, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_path(script, run_name="__main__")
    finally:
        sys.argv = before
    return out.getvalue()


@pytest.mark.parametrize("name", NEW)
def test_each_family_names_a_photo_and_enrols_a_class(studied, name, tmp_path):
    """Would catch photographs that are resized or normalised otherwise than the pack is."""
    project, _, _ = studied
    run = project.result(f"experiments/{name}/seed42/all_classes")
    manifest = read_manifest(project.result("data/tiny_birds/manifest.csv"))
    queries = pd.read_csv(run / "queries.csv").head(5)
    images = project.result("data/tiny_birds/images")
    photos = [images / manifest["path"][i] for i in queries["image_id"]]
    program(project, "name_photos.py", "--run", run, "--csv", tmp_path / "a.csv", *photos)
    answers = pd.read_csv(tmp_path / "a.csv")
    np.testing.assert_allclose(answers["similarity"], queries["similarity"], rtol=0, atol=2e-6)
    folder = tmp_path / "new"
    folder.mkdir()
    for photo in photos[:2]:
        shutil.copy(photo, folder)
    said = program(project, "enrol.py", "--run", run, "--name", "New bird", folder)
    assert "2 photographs enrolled as New bird" in said
    program(project, "name_photos.py", "--run", run, "--csv", tmp_path / "b.csv", photos[0])
    # Features of a network that has learnt nothing are all alike: another class may be as near.
    assert pd.read_csv(tmp_path / "b.csv")["similarity"][0] > 0.99999
    gallery = read_gallery(run / "index_enrolled", run / "model.pt")
    assert (gallery.table["class_name"] == "New bird").sum() == 2


def test_new_content_of_a_file_trains_what_starts_from_it(studied, tmp_path):
    """Would catch other weights under an old name that nobody notices, or a touch that trains anew."""
    project = studied[0].copy(tmp_path / "project")
    path = project.folder / "weights" / "vit.safetensors"
    path.touch()
    assert project.planned() == []
    save_file(timm.create_model("test_vit").state_dict(), path)
    planned = project.planned()
    assert f"Get weights of {VIT}: ours" in planned
    trained = [job for job in planned if job.startswith(("Train", "Pretrain"))]
    assert {job.split()[1] for job in trained} == {"ViT"}


def test_backbones_that_cannot_be_are_named_before_any_job(fresh):
    """Would catch a mistake that is found by the first training, or told without its place."""
    cases = {
        "timm/test_vti": ["experiments.ViT.backbone", "similar names: timm/test_vit"],
        "timm/test_vit": ["experiments.ViT.backbone", "16 × 16 pixels", "32 or 48 would do"],
        "resnet34": ["experiments.ViT.backbone", "unknown backbone 'resnet34'"],
    }
    fresh.change_yaml("tests/workflow/tiny.yaml", lambda c: c["protocol"].update(image_size=40))
    for backbone, words in cases.items():
        entry = {"ViT": {"like": BASE, "backbone": backbone}}
        fresh.change_yaml(
            "tests/workflow/tiny.yaml", lambda c, e=entry: c.update(experiments=e, only=["ViT"])
        )
        text = fresh.snakemake("--dry-run", ok=False)
        for word in ("tests/workflow/tiny.yaml", *words):
            assert word in text
        assert "Traceback" not in text


FAKE_APPTAINER = """#!/bin/bash
if [ "$1" = --version ]; then echo "apptainer version 1.4.5"; exit; fi
echo "$@" >> "$(dirname "$0")/calls"
until [ "$1" = bash ]; do shift; done
exec "$@"
"""


def test_in_containers_the_image_is_asked(fresh, tmp_path):
    """Would catch a host without torch that is asked, or an answer kept for another image."""
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "apptainer").write_text(FAKE_APPTAINER)
    (tools / "apptainer").chmod(0o755)
    (fresh.folder / "containers").mkdir()
    image = fresh.folder / "containers/dml-cpu.sif"
    image.write_text("an image")
    entry = {"ViT": {"like": BASE, "backbone": VIT}}
    fresh.change_yaml(
        "tests/workflow/tiny.yaml", lambda c: c.update(experiments=entry, only=["ViT"])
    )
    options = ["--dry-run", "--sdm", "apptainer", "--apptainer-args=--nv"]
    path = f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin"
    calls = []
    for content in ("an image", "an image", "a newer image"):
        if image.read_text() != content:
            image.write_text(content)
        text = fresh.snakemake(*options, path=path)
        assert "Train ViT (all_classes, seed 42)" in text
        calls.append((tools / "calls").read_text().splitlines())
    assert [len(lines) for lines in calls] == [1, 1, 2]
    line = calls[0][0]
    assert line.startswith(f"exec --bind {fresh.folder / 'workflow/scripts'} --nv {image} bash -c ")
    assert line.endswith("bash --image-size 32 --backbones timm/test_vit")
