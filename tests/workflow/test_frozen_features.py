"""Backbones that do not train: features are computed once, whoever needs them, and never again."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import run_program
from safetensors.torch import load_file

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.core.files import read_json
from dmlstudy.data.pack import Pack
from dmlstudy.use.export import checking
from dmlstudy.use.trained_model import load_model

PROBE, HEAD = "probe", "EPSHN_frozen"
FEATURES = "features/other_species/all_classes/seed42/resnet18_32_shorter32"
BASELINE = "EPSHN_cosine_resnet18_sgd_aug"


def frozen(config):
    config["untrained"] = {"backbones": []}
    config["experiments"] = {
        HEAD: {
            "like": BASELINE,
            "backbone_trains": False,
            "epochs": 3,
            "selection": {"optimizer.lr": [0.01, 0.1]},
        },
        PROBE: {
            "like": HEAD,
            "head": {"kind": "none"},
            "loss": {"kind": "normalized_softmax"},
        },
    }
    config["only"] = [BASELINE, HEAD, PROBE]


@pytest.fixture(scope="module")
def study(finished, tmp_path_factory):
    """The finished tiny study with two more experiments on stored features."""
    study = finished.copy(tmp_path_factory.mktemp("frozen") / "project")
    study.change_yaml("tests/workflow/tiny.yaml", frozen)
    study.planned_jobs = study.planned("evaluation")
    study.snakemake("evaluation", f"results/tiny/experiments/{PROBE}/report.html")
    return study


def test_features_are_computed_once_for_all(study):
    """Would catch features for each experiment, class set or candidate, or a backbone that trains."""
    jobs = study.planned_jobs
    name = FEATURES.removeprefix("features/")
    assert [job for job in jobs if job.startswith("Compute the features")] == [
        f"Compute the features {name}"
    ]
    trained = [job for job in jobs if job.startswith(("Train", "Pretrain", "Decode"))]
    assert trained == sorted(
        f"Train the head of {one} ({class_set}, seed 42)"
        for one in (HEAD, PROBE)
        for class_set in ("all_classes", "limited_classes")
    )
    assert len([job for job in jobs if job.startswith("Try the head of")]) == 4
    assert [path.parent for path in study.result("features").rglob("*.npy")] == [
        study.result(FEATURES)
    ]


def test_runs_have_all_their_files(study):
    """Would catch a run that evaluation, heat maps, names of photographs or tables cannot use."""
    values = np.load(study.result(FEATURES) / "features.npy", mmap_mode="r")
    for class_set in ("all_classes", "limited_classes"):
        run = study.result(f"experiments/{PROBE}/seed42/{class_set}")
        stored = torch.load(run / "model.pt", weights_only=True)
        assert stored["recipe"]["backbone_trains"] is False
        assert stored["test_resize"] == "shorter32"
        assert "backbone.conv1.weight" in stored["model"]
        with np.load(run / "embeddings.npz") as found:
            own = values[found["query_image_ids"]]
            own = own / np.linalg.norm(own, axis=1, keepdims=True)
            np.testing.assert_allclose(found["query_embeddings"], own, atol=1e-6)
            classes = 6 if class_set == "all_classes" else 4
            assert found["classifier_weights"].shape == (classes, 512)
        assert len(pd.read_csv(run / "curves.csv")) == 3
        assert not (run / "state").exists()
        summary = json.loads((run / "summary.json").read_text())
        assert 0 <= summary["softmax_accuracy_known_classes"] <= 1
    table = pd.read_csv(study.result("comparison/experiments.csv")).set_index("experiment")
    assert 0 <= table.loc[PROBE, "softmax_accuracy"] <= 1
    assert np.isnan(table.loc[HEAD, "softmax_accuracy"])
    assert "backbone does not train" in table.loc[HEAD, "details"]
    log = next(study.result("logs/train").glob(f"{PROBE}_*all_classes.log")).read_text()
    assert "images/s" in log


def test_verdict_counts_stored_features_before_and_not_again(study):
    """Would catch heads that pass for networks, or features that cost nothing or are computed again."""
    costs = pd.read_csv(study.result("comparison/verdict_costs.csv"), dtype={"photographs": str})
    own = costs[(costs["experiment"] == PROBE) & (costs["photographs"] == "all")]
    assert set(own["trained"]) == {"head"}
    assert set(own["new_classes"]) == {"enrolled", "head trained"}
    # No head, and the network does not train: vectors of six classes do.
    assert (own["trained_parameters"] == 6 * 512).all()
    own = own[own["answer"] == "nearest"].set_index("new_classes")
    run = study.result(f"experiments/{PROBE}/seed42")
    limited, full = (
        json.loads((run / name / "cost.json").read_text())["train_seconds"]
        for name in ("limited_classes", "all_classes")
    )
    features = json.loads((study.result(FEATURES) / "cost.json").read_text())["total_seconds"]
    first = own.loc["enrolled", "seconds_to_train_first"]
    assert first == pytest.approx(limited + features, abs=1e-4)
    again = own.loc["head trained", "seconds_to_add_them"]
    assert full < again < full + features


def test_photographs_are_named_by_a_frozen_model(study):
    """Would catch an index or a model that needs the features again."""
    target = f"results/tiny/experiments/{HEAD}/seed42/limited_classes/index"
    assert study.planned(target) == [
        f"Index the gallery of {HEAD} (limited_classes, seed 42): index"
    ]


@pytest.mark.parametrize("name", [HEAD, PROBE])
def test_run_is_exported_with_its_frozen_backbone(study, name):
    """Would catch an export without the backbone or the class scores, one that embeds other than the stored
    features do, and a card that lets readers believe that the backbone was trained."""
    run = study.result(f"experiments/{name}/seed42/limited_classes")
    program = study.folder / "workflow/scripts/export.py"
    code, _, errors = run_program(program, "--run", run)
    assert code == 0, errors
    with np.load(run / "embeddings.npz") as stored:
        ids, wanted = stored["query_image_ids"], stored["query_embeddings"]
    _, contents = load_model(run / "model.pt")
    images = ImageBatches(
        Pack(study.result(f"data/tiny_birds/pack_{contents['test_resize']}")),
        contents["recipe"]["image_size"],
        torch.device("cpu"),
        mean=contents["mean"],
        std=contents["std"],
    )
    batch = images.normalise(images.centre(torch.as_tensor(ids))).numpy()
    session = checking.onnx_session(run / "export/model.onnx", 1)
    outputs = dict(
        zip(
            [one.name for one in session.get_outputs()],
            session.run(None, {"images": batch}),
            strict=True,
        )
    )
    np.testing.assert_allclose(outputs["embeddings"], wanted, atol=1e-5)
    check = read_json(run / "export/check.json")["stored_embeddings"]
    assert check["difference"] <= 1e-5
    assert check["same_nearest"] == len(ids)
    if name == PROBE:
        assert outputs["logits"].shape == (len(ids), 4)
    else:
        assert "logits" not in outputs
    weights = load_file(run / "export/model.safetensors")
    for key, value in contents["model"].items():
        assert torch.equal(weights[key], value)
    card = (run / "export/model_card.md").read_text(encoding="utf-8")
    parts = "loss" if name == PROBE else "head"
    assert f"| trained | {parts}; the backbone was frozen: its weights are the starting" in card


def test_another_head_computes_no_features_and_trains_nothing_else(study, tmp_path):
    """Would catch features that follow a head's values, or experiments that follow each other's."""
    changed = study.copy(tmp_path / "project")
    changed.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: config["experiments"][PROBE].update(loss={"kind": "arcface"}),
    )
    jobs = changed.planned("evaluation")
    assert not [job for job in jobs if job.startswith("Compute the features")]
    assert {job.split(" (")[0] for job in jobs if job.startswith("Train")} == {
        f"Train the head of {PROBE}"
    }
    # Another experiment of the study.
    changed = study.copy(tmp_path / "other")
    changed.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: config["experiments"].update(
            new={"like": PROBE, "backbone_trains": True, "selection": {}}
        ),
    )
    changed.change_yaml("tests/workflow/tiny.yaml", lambda config: config["only"].append("new"))
    jobs = changed.planned("evaluation")
    assert {job.split(" (")[0] for job in jobs if job.startswith(("Train", "Try", "Compute"))} == {
        "Train new"
    }


def test_code_of_heads_computes_no_features_and_trains_no_backbone(study, tmp_path):
    """Would catch hours of a backbone because of a line that only heads use, and the reverse."""
    changed = study.copy(tmp_path / "project")
    library = "workflow/scripts/dmlstudy"
    changed.edit(f"{library}/compute/features.py", "ROWS = 4096", "ROWS = 2048")
    trained = [
        job
        for job in changed.planned("evaluation")
        if job.startswith(("Train", "Try", "Compute the features"))
    ]
    assert trained
    assert all(" the head of " in job for job in trained)
    changed.edit(f"{library}/compute/features.py", "ROWS = 2048", "ROWS = 4096")
    changed.edit(f"{library}/compute/feature_files.py", "BATCHES = 16", "BATCHES = 8")
    jobs = changed.planned("evaluation")
    assert [job for job in jobs if job.startswith("Compute the features")]
    assert not [job for job in jobs if job.startswith(f"Train {BASELINE}")]


def test_precision_computes_features_again(study, tmp_path):
    """Would catch features of another precision, or of other weights, taken for these."""
    changed = study.copy(tmp_path / "project")
    changed.change_yaml(
        "tests/workflow/tiny.yaml",
        lambda config: config["protocol"].update(precision="bfloat16"),
    )
    jobs = changed.planned(f"results/tiny/{FEATURES}/features.npy")
    assert f"Compute the features {FEATURES.removeprefix('features/')}" in jobs
