"""Backbones of all families end in pooled features, say what images they want, and load files of weights."""

import argparse
import json
import logging
import os
import subprocess
import sys

import pytest
import timm
import torch
import torchvision
from helpers import small_recipe
from safetensors.torch import save_file
from torch import nn

from dmlstudy.compute import memory
from dmlstudy.compute.backbones import torchvision_models
from dmlstudy.compute.backbones.backbone import Backbone, MapLayers, Preprocessing
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone
from dmlstudy.compute.weight_files import load_backbone_weights, read_weights
from dmlstudy.core import registry, source_code
from dmlstudy.core.files import StudyError
from dmlstudy.core.source_code import PROGRAMS
from dmlstudy.data.weights import HubWeights, WebWeights

MOBILENET = "torchvision/mobilenet_v3_small"
VIT, CONVNEXT, EFFICIENTNET = "timm/test_vit", "timm/test_convnext", "timm/test_efficientnet"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


# What a backbone gives.


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [32, 64])
def test_resnet18_equals_torchvisions(training, size):
    """Would catch a backbone that is not torchvision's, on which its weights would mean nothing."""
    plain = torchvision.models.resnet18(weights=None)
    plain.fc = nn.Identity()
    ours = build_backbone("resnet18", size)
    ours.module.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, size, size)
    plain, network = plain.train(training), ours.module.train(training)
    with torch.no_grad():
        # A BatchNorm over four values magnifies rounding: in training compare in float64.
        if training:
            plain, network, images = plain.double(), network.double(), images.double()
        expected, found = plain(images), network(images)
    assert found.shape == (4, ours.feature_dim) == (4, 512)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_random_weights_are_drawn_as_ever():
    """Would catch draws before or after the network's own, which change every run from scratch."""
    torch.manual_seed(3)
    plain = torchvision.models.resnet18(weights=None)
    following = torch.rand(1)
    torch.manual_seed(3)
    ours = build_backbone("resnet18", 32).module.state_dict()
    assert torch.equal(torch.rand(1), following)
    assert all(torch.equal(value, plain.state_dict()[key]) for key, value in ours.items())


def test_resnet50_has_2048_features():
    """Would catch a width that does not fit the network."""
    with torch.device("meta"):
        backbone = build_backbone("resnet50", 64)
        features = backbone.module(torch.zeros(2, 3, 64, 64))
    assert features.shape == (2, backbone.feature_dim) == (2, 2048)


def before_classifier(network, classifier, images):
    """What a torchvision network hands to its classifier (by hook), flattened."""
    seen = []
    handle = network.get_submodule(classifier).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].flatten(1))
    )
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "classifier", "width"),
    [
        ("mobilenet_v3_small", "classifier", 576),
        ("shufflenet_v2_x0_5", "fc", 1024),
        ("regnet_y_400mf", "fc", 440),
        # The normalisation before its linear layer stays.
        ("convnext_tiny", "classifier.2", 768),
    ],
)
def test_torchvisions_classifiers_are_cut_where_they_begin(name, classifier, width):
    """Would catch a layer of the classifier that stays, or a normalisation that goes with it."""
    torch.manual_seed(1)
    plain = torchvision.models.get_model(name, weights=None)
    ours = build_backbone(f"torchvision/{name}", 64)
    ours.module.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        found = ours.module.eval()(images)
    assert found.shape == (2, ours.feature_dim) == (2, width)
    torch.testing.assert_close(found, before_classifier(plain, classifier, images))


@pytest.mark.parametrize("name", ["vgg11", "alexnet", "squeezenet1_1"])
def test_classifiers_of_whole_maps_leave_the_maps_mean(name):
    """Would catch 25,088 features where a network has 512 channels."""
    ours = build_backbone(f"torchvision/{name}", 64)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = ours.module.eval().features(images).mean(dim=(2, 3))
        torch.testing.assert_close(ours.module(images), expected)
    assert ours.feature_dim == expected.shape[1]


@pytest.mark.parametrize("name", [VIT, CONVNEXT, EFFICIENTNET])
def test_timms_models_give_what_their_classifier_would_take(name):
    """Would catch features before a pooling or a normalisation, or another image size than asked for."""
    plain = timm.create_model(
        name.removeprefix("timm/"), **({"img_size": 96} if name == VIT else {})
    )
    ours = build_backbone(name, 96)
    ours.module.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = plain.eval().forward_head(plain.forward_features(images), pre_logits=True)
        torch.testing.assert_close(ours.module.eval()(images), expected)
    assert expected.shape == (2, ours.feature_dim)


def test_images_are_those_that_the_weights_want():
    """Would catch ImageNet's normalisation or bilinear resizing for weights made with others."""
    found = {}
    with torch.device("meta"):
        for name in ("resnet18", MOBILENET, VIT, "torchvision/efficientnet_b1"):
            found[name] = build_backbone(name, 96).preprocessing
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert found["resnet18"] == found[MOBILENET] == (*imagenet, "bilinear", 224)
    assert found["torchvision/efficientnet_b1"] == (*imagenet, "bicubic", 240)
    assert found[VIT] == (*half, "bicubic", 160)
    # Planning reads the study's own without torch.
    for kind in ("resnet18", "resnet50"):
        assert source_code.constant("backbone", kind, "INTERPOLATION") == "bilinear"
        assert source_code.constant("backbone", kind, "BATCHNORM") is True


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("resnet34", 32, ["unknown backbone 'resnet34'", "resnet18, resnet50"]),
        ("resnet18/x", 32, ["unknown backbone 'resnet18/x'"]),
        ("torchvision/mobilenet_v3_smal", 32, ["similar names: torchvision/mobilenet_v3_small"]),
        ("torchvision/resnet50.V3", 32, ["no weights 'V3'", "IMAGENET1K_V1, IMAGENET1K_V2"]),
        ("timm/tst_vit", 160, ["similar names: timm/test_vit"]),
        ("timm/test_vit.r161_in1k", 160, ["similar names: timm/test_vit.r160_in1k"]),
        ("timm/test_vit", 100, ["16 × 16 pixels", "image_size of 100", "96 or 112"]),
        ("torchvision/vit_b_32", 100, ["32 × 32 pixels", "96 or 128"]),
        ("torchvision/inception_v3", 32, ["cannot take images of 32 × 32 pixels"]),
    ],
)
def test_backbone_that_cannot_be_is_refused_in_words(name, size, words):
    """Would catch a traceback, or border pixels that no patch covers and nobody misses."""
    with pytest.raises(StudyError) as error:
        build_backbone(name, size)
    for word in words:
        assert word in str(error.value)


def test_frozen_batchnorm_needs_a_batchnorm():
    """Would catch an experiment that freezes nothing and says that it did."""
    with pytest.raises(StudyError, match="frozen_batchnorm"):
        EmbeddingModel(build_backbone(VIT, 64), nn.Identity(), frozen_batchnorm=True)
    # timm's own kind of BatchNorm is one.
    model = EmbeddingModel(build_backbone(EFFICIENTNET, 64), nn.Identity(), frozen_batchnorm=True)
    norms = [m for m in model.train().modules() if "BatchNorm" in type(m).__name__]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)


def test_published_weights_of_each_family():
    """Would catch weights of another version, of another repository, or without anything to verify them."""
    published = {
        name: registry.backbone_module(name).published(name)
        for name in ("resnet18", "torchvision/resnet50.IMAGENET1K_V2", VIT)
    }
    assert published["resnet18"] == WebWeights(
        "https://download.pytorch.org/models/resnet18-f37072fd.pth", "f37072fd"
    )
    assert published["torchvision/resnet50.IMAGENET1K_V2"].digits == "11ad3fa6"
    assert published[VIT] == HubWeights("timm/test_vit.r160_in1k", "model.safetensors")
    with pytest.raises(StudyError, match="timm publishes no weights"):
        registry.backbone_module(VIT).published("timm/test_vit4")


def test_only_the_family_in_use_counts_in_a_digest(monkeypatch):
    """Would catch a change of one family that trains the runs of another again."""
    assert registry.backbone_piece("timm/test_vit.r160_in1k") == ("backbone", "timm")
    assert registry.backbone_piece("resnet18") == ("backbone", "resnet18")
    assert registry.backbone_file_name("timm/test_vit") == "timm-test_vit"
    names = ("resnet18", MOBILENET, VIT)
    digest = {n: source_code.code_digest("train.py", registry.backbone_piece(n)) for n in names}
    assert len(set(digest.values())) == 3
    whole = source_code._facts

    def changed(path):
        code, imported = whole(path)
        return code + "changed" * path.name.startswith("timm_models"), imported

    monkeypatch.setattr(source_code, "_facts", changed)
    for name in names:
        again = source_code.code_digest("train.py", registry.backbone_piece(name))
        assert (again == digest[name]) == (name != VIT)


def test_planning_is_told_of_backbones_by_a_program(sharing):
    """Would catch facts that are not the backbone's, or a mistake that ends the program."""
    options = ["--image-size", "100", "--backbones", "resnet18", CONVNEXT, VIT]
    program = ["-S", PROGRAMS / "start.py", PROGRAMS / "describe_backbone.py"]
    with sharing():
        done = subprocess.run(
            [sys.executable, *program, *options], check=True, capture_output=True, text=True
        )
    found = json.loads(done.stdout)
    assert found["resnet18"]["feature_dim"] == 512
    assert found["resnet18"]["batchnorm"]
    assert found[CONVNEXT]["batchnorm"] is False
    assert found[CONVNEXT]["interpolation"] == "bicubic"
    assert list(found[VIT]) == ["problem"]
    assert "16 × 16" in found[VIT]["problem"]


# Memory.


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("name", "size"), [("resnet18", 64), (MOBILENET, 64), (VIT, 96), (CONVNEXT, 96)]
)
def test_kept_activations_are_those_of_a_real_step(name, size, precision):
    """Would catch activations that are counted twice or forgotten, and a card that is overfilled."""
    network = build_backbone(name, size).module.train()
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    weights, saved = sum(p.nbytes for p in network.parameters()), {}

    def save(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        features = network(torch.randn(4, 3, size, size))
    real = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
    del features
    reckoned = 4 * memory.footprint(name, size).kept
    if precision == "bfloat16":
        assert real <= reckoned + weights / 2
    else:
        # What a fused attention saves, the reckoning keeps.
        assert 0.9 * reckoned <= real <= 1.02 * reckoned or (name == VIT and real <= reckoned)


def test_footprints_are_those_that_were_counted_on_real_networks():
    """Would catch a measurement that loses a part; the figures were counted with allocated tensors."""
    megabytes = {
        name: [round(value / 2**20, 1) for value in memory.footprint(name, 224)]
        for name in ("resnet18", "resnet50")
    }
    assert megabytes == {"resnet18": [42.7, 21.2, 6.7], "resnet50": [89.9, 82.0, 10.5]}
    assert memory.footprint(VIT, 160).kept > 2.5 * memory.footprint(VIT, 96).kept


def test_reckoning_needs_no_memory_and_draws_nothing():
    """Would catch a network that is allocated to be measured, or runs that depend on a measurement."""
    state = torch.get_rng_state()
    memory.footprint.cache_clear()
    # 10 GB of activations a batch, a gigabyte of weights.
    recipe = small_recipe(backbone="timm/vit_large_patch16_224", image_size=224, batch_size=64)
    assert memory.activation_megabytes(recipe) > 10_000
    assert torch.equal(torch.get_rng_state(), state)


# Files of weights.


def saved(path, change=None):
    """A file of a plain ResNet18's weights, after ``change(state)``; returns the state."""
    state = torchvision.models.resnet18(weights=None).state_dict()
    if change:
        change(state)
    torch.save(state, path)
    return state


def test_weights_are_loaded(tmp_path):
    """Would catch weights that are checked and then not used."""
    state = saved(tmp_path / "w.pt", lambda s: s.pop("bn1.num_batches_tracked"))
    backbone = build_backbone("resnet18", 32)
    load_backbone_weights(backbone, tmp_path / "w.pt")
    for key, value in backbone.module.state_dict().items():
        assert torch.equal(value, state.get(key, torch.tensor(0)))


def prefixed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state):
    """Weights of the same names, but other values."""
    return {key: value + 1 for key, value in state.items()}


HEAD = {"head.weight": torch.zeros(8, 512)}
CONTAINERS = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 3},
    "parallel": lambda s: {"model": prefixed(s, "module.")},
    "a run of this project": lambda s: {"model": prefixed(s, "backbone.") | HEAD, "recipe": {}},
    "options of a program": lambda s: {"net": s, "args": argparse.Namespace(lr=0.1)},
    "teacher": lambda s: {
        "student": prefixed(other(s), "backbone."),
        "teacher": prefixed(s, "backbone."),
    },
    "averaged": lambda s: {"state_dict": other(s), "state_dict_ema": s},
    "deep": lambda s: {"state": {"model_state": prefixed(s, "module.encoder.")}},
    "momentum": lambda s: {
        "state_dict": prefixed(s, "module.encoder_q.") | prefixed(other(s), "module.encoder_k.")
    },
    "a number among weights": lambda s: {**s, "epoch": 7, "name": "x"},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_weights_are_found_in_any_container(tmp_path, caplog, container):
    """Would catch weights that are missed, or a student's taken for the teacher's."""
    caplog.set_level(logging.INFO)
    state = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(CONTAINERS[container](state), tmp_path / "weights.bin")
    backbone = build_backbone("resnet18", 32)
    load_backbone_weights(backbone, tmp_path / "weights.bin")
    for key, value in backbone.module.state_dict().items():
        assert torch.equal(value, state[key])
    assert "left out the classifier: fc.weight, fc.bias" in caplog.text
    if container == "a run of this project":
        assert "are under model backbone.…" in caplog.text
        assert "left out other parts: head.weight" in caplog.text
    if container == "teacher":
        assert "are under teacher" in caplog.text


def test_safetensors_are_known_by_their_content(tmp_path):
    """Would catch a format that is guessed from a name."""
    state = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    save_file(state, tmp_path / "weights.pth")
    torch.save(state, tmp_path / "weights.safetensors")
    for name in ("weights.pth", "weights.safetensors"):
        backbone = build_backbone(MOBILENET, 32)
        load_backbone_weights(backbone, tmp_path / name)
        for key, value in backbone.module.state_dict().items():
            assert torch.equal(value, state[key])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), r"layer2\.0\.conv1\.weight is missing"),
        (
            lambda s: s.update({"layer2.0.conv01.weight": s.pop("layer2.0.conv1.weight")}),
            r"layer2\.0\.conv1\.weight is missing \(the nearest in the file is layer2\.0\.conv01\.weight\)",
        ),
        (lambda s: s.update({"bn1.bias": torch.zeros(3)}), r"bn1\.bias .*3.*not \(64,\)"),
        (lambda s: s.update({"bn1.bias": "text"}), r"bn1\.bias is str"),
        (
            lambda s: s.update({"layer1.2.conv1.weight": torch.zeros(3)}),
            r"layer1\.2\.conv1\.weight does not belong .* \(the nearest of its own is layer1",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, words):
    """Would catch weights of another network loaded as far as they fit."""
    saved(tmp_path / "weights.pt", change)
    backbone = build_backbone("resnet18", 32)
    before = backbone.module.conv1.weight.detach().clone()
    with pytest.raises(StudyError, match=rf"weights\.pt: {words}"):
        load_backbone_weights(backbone, tmp_path / "weights.pt")
    assert torch.equal(backbone.module.conv1.weight, before)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# Names of open_clip in a block of its image tower, and timm's.
OPEN_CLIP = {
    **{f"{a}.{b}": f"{c}.{b}" for a, c in (("ln_1", "norm1"), ("ln_2", "norm2"), ("attn.out_proj", "attn.proj"))
       for b in ("weight", "bias")},
    **{f"attn.in_proj_{b}": f"attn.qkv.{b}" for b in ("weight", "bias")},
    **{f"mlp.{a}.{b}": f"mlp.{c}.{b}" for a, c in (("c_fc", "fc1"), ("c_proj", "fc2"))
       for b in ("weight", "bias")},
}  # fmt: skip


def test_image_tower_of_open_clip_is_loaded_without_its_projection(tmp_path, caplog):
    """Would catch a file of CLIP that is refused for the classifier that its projection becomes."""
    caplog.set_level(logging.INFO)
    source = timm.create_model("test_vit", num_classes=7)
    own = source.state_dict()
    named = {
        **{f"conv1.{key}": own[f"patch_embed.proj.{key}"] for key in ("weight", "bias")},
        "class_embedding": own["cls_token"].reshape(-1),
        "positional_embedding": own["pos_embed"][0],
        "ln_post.weight": own["norm.weight"],
        "ln_post.bias": own["norm.bias"],
        "proj": own["head.weight"].t(),
        **{
            f"transformer.resblocks.{block}.{theirs}": own[f"blocks.{block}.{ours}"]
            for block in range(len(source.blocks))
            for theirs, ours in OPEN_CLIP.items()
        },
    }
    text = {"token_embedding.weight": torch.zeros(5, 3), "logit_scale": torch.tensor(1.0)}
    state = {f"visual.{key}": value.clone().contiguous() for key, value in named.items()} | text
    save_file(state, tmp_path / "open_clip_model.safetensors")
    backbone = build_backbone(VIT, 160)
    load_backbone_weights(backbone, tmp_path / "open_clip_model.safetensors")
    images = torch.randn(2, 3, 160, 160)
    source.reset_classifier(0)
    with torch.inference_mode():
        assert torch.equal(backbone.module.eval()(images), source.eval()(images))
    assert "left out the classifier: head." in caplog.text


def test_weights_never_run_code(tmp_path):
    """Would catch a downloaded file that is unpickled."""
    torch.save({"conv1.weight": Attack(tmp_path / "owned")}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"epoch": 2}, tmp_path / "empty.pt")
    # A safetensors file that was cut off.
    save_file({"conv1.weight": torch.zeros(64)}, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-9])
    for name in ("weights.pt", "text.pt", "list.pt", "empty.pt", "cut.pt", "not_there.pt"):
        with pytest.raises(StudyError, match=name):
            load_backbone_weights(build_backbone("resnet18", 32), tmp_path / name)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(StudyError, match=r"list\.pt: holds a list"):
        read_weights(tmp_path / "list.pt")


def test_position_embeddings_are_resampled_as_timm_does(tmp_path, caplog):
    """Would catch a ViT that takes no other image size than its weights were made with."""
    caplog.set_level(logging.INFO)
    plain = timm.create_model("test_vit", img_size=160)
    nn.init.normal_(plain.pos_embed)
    save_file(plain.state_dict(), tmp_path / "model.safetensors")
    ours = build_backbone(VIT, 96)
    load_backbone_weights(ours, tmp_path / "model.safetensors")
    theirs = timm.create_model(
        "test_vit",
        img_size=96,
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": plain.state_dict()},
    )
    assert ours.module.pos_embed.shape == (1, 37, 64)
    for key, value in ours.module.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key])
    assert "left out the classifier: head.bias, head.weight" in caplog.text


def test_position_embeddings_are_resampled_as_torchvision_does():
    """Would catch weights of torchvision's ViT that fit one image size only, or a changed argument."""
    vit = torchvision.models.VisionTransformer
    sizes = {"patch_size": 8, "num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    state = vit(image_size=32, **sizes).state_dict()
    nn.init.normal_(state["encoder.pos_embedding"])
    before = state["encoder.pos_embedding"].clone()
    network = vit(image_size=64, **sizes)
    found = torchvision_models._resampled(network, state)
    assert found["encoder.pos_embedding"].shape == (1, 65, 8)
    assert torch.equal(found["encoder.pos_embedding"][:, 0], before[:, 0])
    assert torch.equal(state["encoder.pos_embedding"], before)


@pytest.mark.parametrize("name", [VIT, CONVNEXT, EFFICIENTNET, "timm/test_vit3", "timm/test_nfnet"])
def test_own_weights_come_back_as_they_were(tmp_path, name):
    """Would catch a conversion of foreign weights that changes a trained initializer's."""
    trained = build_backbone(name, 64).module.state_dict()
    torch.save(trained, tmp_path / "trained.weights")
    backbone = build_backbone(name, 64)
    load_backbone_weights(backbone, tmp_path / "trained.weights")
    for key, value in backbone.module.state_dict().items():
        assert torch.equal(value, trained[key])


def test_weights_that_timm_cannot_fit_are_refused_in_words(tmp_path):
    """Would catch a traceback from inside timm."""
    torch.save({"pos_embed": torch.zeros(2, 2), "patch_embed.proj.weight": torch.zeros(3)}, tmp_path / "w.pt")  # fmt: skip
    with pytest.raises(StudyError, match=r"w\.pt: "):
        load_backbone_weights(build_backbone(VIT, 64), tmp_path / "w.pt")


def test_a_backbone_of_ones_own_needs_no_more_than_this(tmp_path):
    """Would catch a loader that asks for what only our families have."""
    own = Backbone(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        4,
        Preprocessing((0, 0, 0), (1, 1, 1), "bilinear", 32),
        MapLayers(),
    )
    state = own.module.state_dict()
    torch.save(prefixed(state, "encoder."), tmp_path / "w.pt")
    load_backbone_weights(own, tmp_path / "w.pt")
