"""The rows of config/foundation.yaml, each with a tiny network of its own family and weights from a hub."""

import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from loopback import Hub, Server
from safetensors.torch import save_file
from timm.models import _registry

from dmlstudy.compute.embedding_model import build_backbone
from dmlstudy.compute.weight_files import load_backbone_weights
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.core.source_code import PROGRAMS

TEXT = (Path(PROGRAMS).parents[1] / "config" / "foundation.yaml").read_text(encoding="utf-8")
# timm's names in the file, those that wait behind a `#` for weights with a licence included.
NAMES = sorted(set(re.findall(r"timm/[\w.]+", TEXT)))
TINY_TRANSFORMER = {"embed_dim": 48, "depth": 2, "num_heads": 2}
TINY_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16)}
SIZE = 224


@pytest.fixture
def tiny(monkeypatch):
    """Call it with a name of timm's: from then on, that name builds a network of few weights."""

    def shrink(name):
        architecture = name.removeprefix("timm/").partition(".")[0]
        smaller = TINY_CONVNEXT if "convnext" in architecture else TINY_TRANSFORMER
        whole = _registry._model_entrypoints[architecture]

        def entry(pretrained=False, **options):
            return whole(pretrained, **smaller, **options)

        # timm finds the function that fits weights to a network by the module of its entry point.
        entry.__module__ = whole.__module__
        monkeypatch.setitem(_registry._model_entrypoints, architecture, entry)
        return architecture

    return shrink


def test_names_are_found_in_the_file():
    """Would catch a row of the file that the test below passes over."""
    rows = yaml.safe_load(TEXT)
    listed = {each for each in rows["untrained"]["backbones"] if each.startswith("timm/")}
    trained = {each["backbone"] for each in rows["experiments"].values()}
    assert listed | trained <= set(NAMES)
    families = ("dinov2", "dinov3", "clip", "siglip", "convnext")
    assert all(any(family in name for name in NAMES) for family in families)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_each_family_come_from_the_hub_and_give_timms_features(
    name, tiny, tmp_path, monkeypatch
):
    """A family whose weights load with other names, position embeddings, pooling or preprocessing than timm's."""
    architecture = tiny(name)
    facts = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    published_size = facts.input_size[-1]
    options = {"img_size": published_size} if facts.fixed_input_size else {}
    torch.manual_seed(0)
    # As published: at the size of its own images, with the classifier that the file has.
    whole = timm.create_model(architecture, num_classes=facts.num_classes, **options)
    for parameter in whole.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    file = tmp_path / "model.safetensors"
    save_file(whole.state_dict(), file)

    hub, large = Hub(file.read_bytes()), Server(file.read_bytes())
    hub.location, hub.commits = f"{large.address}/signed", ["1" * 40]
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        hub.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    out = tmp_path / f"{backbone_file_name(name)}.weights"
    arguments = ["--backbone", name, "--kind", "published", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["get_weights.py", *arguments])
    spec = importlib.util.spec_from_file_location("get_weights", PROGRAMS / "get_weights.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    try:
        program.main()
    finally:
        hub.close()
        large.close()
    assert any(f"/{facts.hf_hub_id}/resolve/" in path for path in hub.paths)
    assert hashlib.sha256(out.read_bytes()).digest() == hashlib.sha256(file.read_bytes()).digest()

    backbone = build_backbone(name, SIZE)
    load_backbone_weights(backbone, out)
    assert backbone.preprocessing.mean == tuple(facts.mean)
    assert backbone.preprocessing.std == tuple(facts.std)
    assert backbone.preprocessing.interpolation == facts.interpolation
    # timm's own way from the file to features of images of this size.
    options = {"img_size": SIZE} if facts.fixed_input_size else {}
    expected = timm.create_model(architecture, num_classes=0, checkpoint_path="", **options)
    state = timm.models.load_state_dict(file)
    fit = sys.modules[_registry._model_entrypoints[architecture].__module__].checkpoint_filter_fn
    expected.load_state_dict(
        {key: value for key, value in fit(state, expected).items() if not key.startswith("head.fc.")
         and key not in ("head.weight", "head.bias")}
    )  # fmt: skip
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        found = backbone.module.eval()(images)
        assert found.shape == (2, backbone.feature_dim)
        assert torch.equal(found, expected.eval()(images))
        # Weights that were not loaded would give the features of other random weights.
        assert found.std() > 0
