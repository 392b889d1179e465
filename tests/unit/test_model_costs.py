"""How large models are, and how many operations they take."""

import json

import measure_models
import pandas as pd
import pytest
import torch
from torch import nn

from dmlstudy.compute.model_costs import build, milliseconds, size

MODEL = {
    "backbone": "resnet18",
    "image_size": 32,
    "head": {"kind": "linear", "embedding_dim": 128},
    "frozen_batchnorm": False,
    "backbone_trains": True,
    "trained_parts": {"kind": "all"},
    "trains": True,
}
# Of torchvision's ResNet18 without its classifier, and of the linear head.
BACKBONE, HEAD = 11_176_512, 512 * 128 + 128


def test_operations_are_those_of_its_layers():
    """Would catch products that are not counted, or a multiplication and addition that count as one."""
    total = 0

    def count(layer, images, output):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            total += 2 * output.numel() * layer.in_channels * layer.kernel_size[0] ** 2
        elif isinstance(layer, nn.Linear):
            total += 2 * output.numel() * layer.in_features

    model = build(MODEL).eval()
    for layer in model.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        model(torch.zeros(1, 3, 32, 32))
    assert size(MODEL).gflop == pytest.approx(total / 1e9, rel=1e-9)
    assert size({**MODEL, "image_size": 224}).gflop == pytest.approx(3.627, abs=0.001)


@pytest.mark.parametrize(
    ("changes", "parameters", "trained"),
    [
        ({}, BACKBONE + HEAD, BACKBONE + HEAD),
        ({"head": {"kind": "none"}}, BACKBONE, BACKBONE),
        ({"backbone_trains": False}, BACKBONE + HEAD, HEAD),
        ({"trains": False}, BACKBONE + HEAD, 0),
        # Scales and shifts of all BatchNorms.
        ({"frozen_batchnorm": True}, BACKBONE + HEAD, BACKBONE + HEAD - 9600),
        ({"trained_parts": {"kind": "normalisation"}}, BACKBONE + HEAD, 9600 + HEAD),
    ],
)
def test_weights_that_train_are_counted(changes, parameters, trained):
    """Would catch frozen weights that count as trained, or a head that is forgotten."""
    found = size({**MODEL, **changes})
    assert (found.parameters, found.trained_parameters) == (parameters, trained)


def test_low_rank_changes_train_and_are_no_part_of_the_stored_model():
    """Would catch a model that grows by its low-rank changes, or a backbone that counts as trained."""
    plain = {**MODEL, "backbone": "timm/test_vit", "image_size": 160}
    lora = {"kind": "lora", "rank": 2, "alpha": 16.0, "layers": "attention"}
    whole, changed = size(plain), size({**plain, "trained_parts": lora})
    assert changed.parameters == whole.parameters
    assert changed.gflop == whole.gflop
    # 6 blocks, 64 dimensions: matrices of rank 2 for the layers 64 → 192 and 64 → 64, and the head.
    assert changed.trained_parameters == 6 * 2 * (64 + 192 + 64 + 64) + 64 * 128 + 128


def test_measurement_leaves_random_numbers_as_they_were():
    """Would catch a measurement on shapes that draws from the generator of others."""
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    size(MODEL)
    assert torch.equal(torch.rand(3), expected)


def test_time_is_that_of_one_photograph():
    """Would catch seconds in place of milliseconds, or the time of a batch."""
    taken, device = milliseconds(MODEL, device="cpu", precision="float32", threads=1)
    assert 0.01 < taken < 2000
    assert device == "cpu"


def test_program_uses_chosen_values(tmp_path, monkeypatch):
    """Would catch a selected head that is measured at the width that was not chosen."""
    chosen = {"recipe": {"head": {"kind": "linear", "embedding_dim": 64}, "optimizer": {}}}
    (tmp_path / "chosen.json").write_text(json.dumps(chosen))
    arguments = ["--models", json.dumps({"a": MODEL, "b": MODEL}), "--device", "cpu"]
    arguments += ["--chosen", json.dumps({"b": str(tmp_path / "chosen.json")})]
    arguments += ["--out", str(tmp_path / "costs.csv")]
    monkeypatch.setattr("sys.argv", ["measure_models.py", *arguments])
    measure_models.main()
    found = pd.read_csv(tmp_path / "costs.csv").set_index("experiment")["parameters"]
    assert found.to_dict() == {"a": BACKBONE + HEAD, "b": BACKBONE + 512 * 64 + 64}
