"""EmbeddingCAM is what it is said to be; boxes, metrics and files that go with it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import TinyStudy, small_recipe, unit
from torch import nn
from torch.nn import functional

from dmlstudy.compute.backbones.backbone import Backbone, MapLayers, Preprocessing
from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone, trim_small_maps
from dmlstudy.core.files import StudyError
from dmlstudy.data.dataset import BOX
from dmlstudy.data.pack import Pack
from dmlstudy.evaluate.retrieval import answer_queries
from dmlstudy.explain import heatmap_files
from dmlstudy.explain.explanation import Run, choose_queries, explain
from dmlstudy.explain.heatmap_files import (
    Heatmaps,
    load_heatmaps,
    model_crop,
    overlay,
    save_heatmaps,
)
from dmlstudy.explain.heatmaps import (
    EmbeddingCAM,
    Layer,
    choose_layer,
    class_proxies,
    heat_maps,
)
from dmlstudy.explain.localisation import (
    boxes_in_crops,
    centred_gaussian,
    enlarged,
    inside,
    localisation_table,
    localise,
    pointing_hit,
    share_in_box,
)
from dmlstudy.train.building import build_piece
from dmlstudy.train.run import train_run

SIZE = 128


@pytest.fixture(scope="module")
def backbone():
    """A ResNet18 with drawn weights whose BatchNorms have statistics of their own."""
    torch.manual_seed(3)
    network = build_backbone("resnet18", SIZE)
    network.module.train()
    with torch.no_grad():
        for _ in range(3):
            network.module(torch.randn(8, 3, SIZE, SIZE))
    network.module.eval()
    return network


def plain(backbone, name="layer4"):
    """A `Layer` of a `Backbone` whose output is a map as it is."""
    return Layer(name, backbone.module.get_submodule(name), lambda output: output)


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))


def features_of(backbone, images):
    """Maps of the last stage (n, channels, h, w)."""
    seen = []
    handle = backbone.module.layer4.register_forward_hook(lambda *values: seen.append(values[2]))
    with torch.no_grad():
        backbone.module(images)
    handle.remove()
    return seen[0]


def cam(features, vectors):
    """Class activation maps by hand: Σ over channels of vector · features, where positive."""
    return torch.einsum("nchw,nc->nhw", features, vectors).clamp(min=0).numpy()


def drawn_head(kind, **parameters):
    """A head none of whose parts is neutral, in eval mode."""
    torch.manual_seed(5)
    head = build_piece("head", {"kind": kind, **parameters}, 512)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        for module in head.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return head.eval()


def effective_matrix(kind, head):
    """(dim, 512): the matrix W of a head in eval mode, e = W f + b, from its weights."""
    if kind == "linear":
        return head.weight
    if kind == "batchnorm":
        layer, norm = head
        return (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None] * layer.weight
    gate = torch.sigmoid(head.gate)[:, None]
    return head.fc1.weight + gate * (head.fc2.weight @ head.fc1.weight)


HEADS = {
    "linear": {"embedding_dim": 16},
    "batchnorm": {"embedding_dim": 16},
    "skip_connection": {"embedding_dim": 16, "dropout": 0.5},
}


@pytest.mark.parametrize("kind", HEADS)
def test_embedding_cam_is_cam_with_the_proxys_class_vector(backbone, images, kind):
    """Would catch a wrong layer, target, gradient or mode: the map must be CAM with Wᵀp."""
    head = drawn_head(kind, **HEADS[kind])
    model = EmbeddingModel(backbone, head).train()
    proxies = unit(np.random.default_rng(0), 4, 16)
    layer = choose_layer(model, SIZE)
    assert layer.name == "layer4"
    found = heat_maps(model, layer, images, proxies)
    with torch.no_grad():
        matrix = effective_matrix(kind, head)
        features = features_of(backbone, images)
        expected = cam(features, torch.from_numpy(proxies) @ matrix)
    # Grad-CAM averages the gradient over the map, which pooling has divided by its pixels already.
    expected /= features.shape[2] * features.shape[3]
    assert found.shape == (4, 4, 4)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
    # Not empty: a map of zeros equals anything that is forgotten on both sides.
    assert (found.max(axis=(1, 2)) > 0).all()
    # The skip head's Jacobian at a sample is that matrix as well: in eval mode the head is affine.
    pooled = features.mean(dim=(2, 3))[0]
    jacobian = torch.autograd.functional.jacobian(head.eval(), pooled[None])[0, :, 0]
    torch.testing.assert_close(jacobian, matrix.detach(), rtol=1e-4, atol=1e-6)


def test_own_proxy_on_normalised_embeddings_has_no_gradient(backbone, images):
    """Why the score is not the similarity of a normalised query with itself: there is nothing to see."""

    class Normalised(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return functional.normalize(self.model(images), dim=1)

    model = EmbeddingModel(backbone, drawn_head("linear", embedding_dim=16)).eval()
    with torch.no_grad():
        own = Normalised(model)(images)

    def gradient(network):
        features = features_of(backbone, images).clone().requires_grad_()
        handle = backbone.module.layer4.register_forward_hook(lambda *values: features)
        (network(images) * own).sum().backward()
        handle.remove()
        return float(features.grad.abs().max())

    # What is left is rounding; Grad-CAM would stretch it to a map that looks like one.
    assert gradient(Normalised(model)) < 1e-5 * gradient(model)


def test_each_image_has_its_own_map_and_weights_stay_clean(backbone, images):
    """Would catch one target for a whole batch, whose other maps are silently empty, and left gradients."""
    model = EmbeddingModel(backbone, drawn_head("linear", embedding_dim=16)).eval()
    for parameter in model.parameters():
        parameter.grad = None
    proxies = unit(np.random.default_rng(0), 4, 16)
    layer = plain(backbone)
    together = heat_maps(model, layer, images, proxies)
    alone = [heat_maps(model, layer, images[i : i + 1], proxies[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-4, atol=1e-6)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not layer.module._forward_hooks
    np.testing.assert_array_equal(heat_maps(model, layer, images, proxies), together)
    with pytest.raises(ValueError, match="4 images"):
        heat_maps(model, layer, images, proxies[:1])
    # Weights that are frozen for good, as a frozen BatchNorm's are, make no difference.
    frozen = EmbeddingModel(backbone, model.head, frozen_batchnorm=True).eval()
    np.testing.assert_array_equal(heat_maps(frozen, layer, images, proxies), together)
    for parameter in frozen.parameters():
        parameter.requires_grad_(True)


def test_maps_keep_their_scale(backbone, images):
    """Would catch the library's stretching, after which a map that is warm all over has a cold place."""
    model = EmbeddingModel(backbone, drawn_head("linear", embedding_dim=16)).eval()
    proxies = unit(np.random.default_rng(0), 4, 16)
    once = heat_maps(model, plain(backbone), images, proxies)
    twice = heat_maps(model, plain(backbone), images, 2 * proxies)
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-4)
    assert EmbeddingCAM.__mro__[1].__module__.startswith("pytorch_grad_cam")


@pytest.mark.parametrize(
    ("size", "name", "side"),
    [
        (224, "layer4", 7),
        (128, "layer4", 4),
        (96, "layer3", 6),
        (32, "layer2", 4),
        (16, "layer1", 4),
    ],
)
def test_small_images_are_looked_at_where_there_is_a_place(size, name, side):
    """Would catch a map of one pixel, which is a picture of nothing."""
    torch.manual_seed(0)
    network = build_backbone("resnet18", size)
    trim_small_maps(network.module, size)
    model = EmbeddingModel(network, nn.Identity()).eval()
    layer = choose_layer(model, size)
    assert layer.name == name
    maps = heat_maps(model, layer, torch.randn(2, 3, size, size), np.ones((2, 512), np.float32))
    assert maps.shape == (2, side, side)


def test_trimmed_convolutions_give_the_maps_of_plain_ones():
    """Would catch gradients that the small images' own convolutions lose or scale."""
    torch.manual_seed(0)
    untouched, trimmed = (build_backbone("resnet18", 32) for _ in range(2))
    trimmed.module.load_state_dict(untouched.module.state_dict())
    trim_small_maps(trimmed.module, 32)
    images = torch.randn(3, 3, 32, 32)
    proxies = unit(np.random.default_rng(1), 3, 512)
    found = [
        heat_maps(
            EmbeddingModel(network, nn.Identity()).eval(), plain(network, "layer2"), images, proxies
        )
        for network in (untouched, trimmed)
    ]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5 * found[0].max())


class MeanOfTokens(nn.Module):
    """A small ViT without a class token: its features are the mean of its normalised tokens."""

    def __init__(self, dim=16, patch=8):
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, patch)
        self.block = nn.TransformerEncoderLayer(dim, 2, 32, dropout=0, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.norm(self.block(tokens)).mean(dim=1)


def wrapped(module, width, map_layers=None):
    """A `Backbone` of any module."""
    half = (0.5, 0.5, 0.5)
    return Backbone(
        module, width, Preprocessing(half, half, "bilinear", 64), map_layers or MapLayers()
    )


def test_mean_of_tokens_with_a_linear_head_is_cam_as_well():
    """Would catch tokens that are put on another grid, transposed, or weighted by another token's gradient."""
    torch.manual_seed(0)
    network = MeanOfTokens().eval()
    head = nn.Linear(16, 8)
    model = EmbeddingModel(wrapped(network, 16), head).eval()
    images, proxies = torch.randn(3, 3, 48, 48), unit(np.random.default_rng(0), 3, 8)
    layer = choose_layer(model, 48)
    assert layer.name == "norm"
    found = heat_maps(model, layer, images, proxies)
    with torch.no_grad():
        tokens = network.norm(network.block(network.patches(images).flatten(2).transpose(1, 2)))
        features = tokens.transpose(1, 2).unflatten(2, (6, 6))
        expected = cam(features, torch.from_numpy(proxies) @ head.weight) / 36
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert (found.max(axis=(1, 2)) > 0).all()


def grad_cam_by_hand(model, layer, images, proxies):
    """Grad-CAM from its definition, by autograd: (n, h, w)."""
    seen = []

    def note(module, inputs, output):
        seen.append(output)
        # What follows may change it in place.
        return output.clone()

    handle = layer.module.register_forward_hook(note)
    embeddings = model.eval()(images.clone().requires_grad_())
    handle.remove()
    score = (embeddings * torch.from_numpy(proxies)).sum()
    (gradient,) = torch.autograd.grad(score, seen)
    features, gradient = layer.to_map(seen[0].detach()), layer.to_map(gradient)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * features).sum(dim=1).clamp(min=0).numpy()


@pytest.mark.parametrize(
    ("name", "size", "where", "side"),
    [
        # The last attention's input: of the last block's output only the class token is used.
        ("timm/test_vit", 96, "blocks.5.norm1", 6),
        # Registers beside the class token, and a pooling by attention.
        ("timm/test_vit3", 96, None, 6),
        ("timm/test_vit4", 96, None, 6),
        ("timm/test_convnext", 128, None, 4),
        ("timm/test_efficientnet", 128, None, 4),
        ("timm/xcit_nano_12_p16_224", 96, None, 6),
        ("torchvision/mobilenet_v3_small", 128, "features", 4),
        # Maps whose channels stand last in torchvision's Swin and in timm's.
        ("torchvision/swin_t", 128, "permute", 4),
        ("timm/swin_tiny_patch4_window7_224", 128, "norm", 4),
        # A ReLU in place follows its last BatchNorm.
        ("torchvision/densenet121", 128, "features", 4),
    ],
)
def test_maps_of_every_family_are_grad_cams(name, size, where, side):
    """Would catch class tokens in a map, channels taken for rows, or a place that no gradient reaches."""
    torch.manual_seed(0)
    backbone = build_backbone(name, size)
    for key, parameter in backbone.module.named_parameters():
        # Attention that starts at nothing would hide that heat reaches the image's tokens.
        if "gamma" in key or ".ls" in key:
            nn.init.constant_(parameter, 1.0)
    model = EmbeddingModel(backbone, nn.Linear(backbone.feature_dim, 8)).eval()
    layer = choose_layer(model, size)
    if where:
        assert layer.name == where
    images, proxies = torch.randn(2, 3, size, size), unit(np.random.default_rng(0), 2, 8)
    found = heat_maps(model, layer, images, proxies)
    assert found.shape == (2, side, side)
    assert found.max() > 0
    expected = grad_cam_by_hand(model, layer, images, proxies)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())


def test_a_change_in_one_patch_shows_at_its_place():
    """Would catch a grid of tokens that begins at the class token, or runs down before across."""
    torch.manual_seed(0)
    model = EmbeddingModel(build_backbone("timm/test_vit", 96), nn.Identity()).eval()
    layer = choose_layer(model, 96)
    seen = []
    handle = layer.module.register_forward_hook(lambda *values: seen.append(values[2]))
    images = torch.zeros(2, 3, 96, 96)
    images[1, :, 16:32, 64:80] = 1
    with torch.no_grad():
        model(images)
    handle.remove()
    change = layer.to_map(seen[0]).diff(dim=0).abs().sum(dim=(0, 1))
    assert divmod(int(change.argmax()), 6) == (1, 4)


def test_backbone_without_a_map_says_so():
    """Would catch a map of one pixel, or a traceback from inside a library."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    model = EmbeddingModel(wrapped(network, 4), nn.Identity())
    with pytest.raises(StudyError, match=r"no layer .* 32 × 32 pixels"):
        choose_layer(model, 32)


def test_proxy_is_the_mean_of_normalised_embeddings():
    """Would catch a sum, a median, or a mean over other classes' images."""
    embeddings = unit(np.random.default_rng(0), 6, 3)
    proxies = class_proxies(embeddings, np.array([7, 2, 7, 2, 2, 5]))
    assert list(proxies) == [2, 5, 7]
    np.testing.assert_allclose(proxies[7], (embeddings[0] + embeddings[2]) / 2, rtol=1e-6)


def marked(width, height, box):
    """A row of a manifest and a black image (height, width, 3) with a white box."""
    x, y, w, h = box
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[y : y + h, x : x + w] = 255
    row = {"image_id": 0, "width": width, "height": height}
    return pd.DataFrame([{**row, **dict(zip(BOX, box, strict=True))}]), image


@pytest.mark.parametrize("resize", ["shorter64", "shorter70", "squash64"])
@pytest.mark.parametrize(
    ("size", "box"),
    [((200, 128), (60, 40, 50, 60)), ((128, 201), (30, 70, 64, 50)), ((200, 128), (0, 0, 90, 128))],
)
def test_box_moves_as_its_image_does(tmp_path, size, box, resize):
    """Would catch a box that is not resized, cropped or cut as the test transform does with its image."""
    from PIL import Image

    from dmlstudy.data.pack import write_pack

    manifest, image = marked(*size, box)
    Image.fromarray(image).save(tmp_path / "one.png")
    write_pack(
        tmp_path / "pack", tmp_path, manifest.assign(path="one.png"), resize, max_pixels=10**6
    )
    pack = Pack(tmp_path / "pack")
    seen = model_crop(pack, 0, 64)
    np.testing.assert_array_equal(
        seen,
        ImageBatches(pack, 64, torch.device("cpu")).centre(torch.tensor([0]))[0].permute(1, 2, 0),
    )
    mask = inside(boxes_in_crops(manifest, resize, 64)[0], 64)
    # Antialiasing makes pixels at the edge grey.
    assert mask[seen[..., 0] > 200].all()
    assert not mask[seen[..., 0] < 55].any()
    assert mask.any()


def test_box_outside_the_crop_or_missing_counts_for_nothing():
    """Would catch scores for a box without pixels."""
    manifest, _ = marked(300, 100, (0, 0, 20, 20))
    assert np.isnan(boxes_in_crops(manifest, "shorter64", 64)).all()
    assert np.isnan(boxes_in_crops(manifest.drop(columns=BOX), "shorter64", 64)).all()
    scores = localise(np.ones((1, 2, 2)), np.full((1, 4), np.nan), 64)
    assert np.isnan(scores).all()


def test_scores_of_maps_made_by_hand():
    """Would catch a wrong share, or a hottest pixel with row and column swapped."""
    heat = np.zeros((4, 4), dtype=np.float32)
    heat[0, 3], heat[2, 1] = 3.0, 1.0
    right = inside((2, 0, 4, 2), 4)
    assert right.sum() == 4
    assert right[0, 3]
    assert share_in_box(heat, right) == 0.75
    assert pointing_hit(heat, right) == 1
    below = inside((0, 2, 2, 4), 4)
    assert share_in_box(heat, below) == 0.25
    assert pointing_hit(heat, below) == 0
    # Two hottest pixels, one inside.
    heat[2, 1] = 3.0
    assert pointing_hit(heat, below) == 0.5
    assert np.isnan(share_in_box(np.zeros((4, 4)), right))
    assert np.isnan(pointing_hit(np.zeros((4, 4)), right))
    # A pixel belongs to a box that holds its centre.
    assert inside((0.4, 0, 1.6, 1), 4)[0].tolist() == [True, True, False, False]


def test_maps_are_enlarged_as_the_networks_do():
    """Would catch an enlargement that shifts a map by half a pixel."""
    heat = np.random.default_rng(0).random((3, 7, 7)).astype(np.float32)
    expected = functional.interpolate(
        torch.from_numpy(heat)[None], size=224, mode="bilinear", align_corners=False
    )[0].numpy()
    found = np.stack([enlarged(one, 224) for one in heat])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_localisation_has_baselines_and_intervals():
    """Would catch a metric without its baselines or interval, or baselines that are wrong."""
    rng = np.random.default_rng(0)
    boxes = np.tile([16.0, 16.0, 48.0, 48.0], (30, 1))
    boxes[0] = np.nan
    maps = rng.random((30, 4, 4))
    maps[1] = 0
    table = localisation_table({"model": maps}, boxes, 64, draws=200, seed=1).set_index("map")
    assert list(table.index) == ["model", "uniform", "centred_gaussian"]
    assert table["queries"].tolist() == [28, 29, 29]
    assert table["maps_without_heat"].tolist() == [1, 0, 0]
    # The box is a quarter of the image, which a random pixel hits as often.
    assert table.loc["uniform", "share_in_box"] == pytest.approx(0.25, abs=1e-6)
    assert table.loc["uniform", "pointing_accuracy"] == pytest.approx(0.25, abs=1e-6)
    assert table.loc["centred_gaussian", "pointing_accuracy"] == 1
    # One standard deviation to each side, of a normal distribution that is cut at the image's edges.
    assert table.loc["centred_gaussian", "share_in_box"] == pytest.approx(
        (0.6827 / 0.9545) ** 2, abs=0.01
    )
    row = table.loc["model"]
    assert row["share_in_box_low"] < row["share_in_box"] < row["share_in_box_high"]
    assert centred_gaussian(64).shape == (64, 64)
    none = localisation_table({"model": maps}, np.full((30, 4), np.nan), 64, draws=200, seed=1)
    assert len(none) == 0
    assert list(none.columns) == ["map", *table.columns]


def answers_of(correct, classes):
    ids = np.arange(100, 100 + len(classes))
    return pd.DataFrame({"image_id": ids, "class_id": classes, "correct": correct})


def test_errors_and_unseen_classes_are_shown_first():
    """Would catch a choice in the order of the table, or one of right answers only."""
    classes = np.repeat([0, 1], 20)
    correct = np.tile([1, 1, 1, 0], 10)
    tables = [answers_of(correct, classes), answers_of(np.ones(40, int), classes)]
    chosen = choose_queries(tables, {1}, 8, seed=1)
    assert len(set(chosen)) == 8
    groups = [(1 - correct[i - 100], classes[i - 100]) for i in chosen]
    assert groups == [(1, 1), (1, 0), (0, 1), (0, 0)] * 2
    assert choose_queries(tables, {1}, 8, seed=1).tolist() == chosen.tolist()
    assert choose_queries(tables, {1}, 8, seed=2).tolist() != chosen.tolist()
    # More than there are: each once.
    assert sorted(choose_queries(tables, {1}, 99, seed=1)) == list(range(100, 140))


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """Heat maps of the two models of a tiny study, made twice."""
    folder = tmp_path_factory.mktemp("explained")
    study = TinyStudy(folder)
    manifest = study.manifest.assign(box_x=4, box_y=4, box_width=20, box_height=20)
    recipe = small_recipe(
        epochs=1, head={"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.1}
    )

    def run(class_set):
        dataset = study.dataset(class_set)
        trained = train_run(recipe, dataset, study.train_pack, study.test_pack)
        answers = answer_queries(trained.embeddings, dataset.class_ids, with_r_precision=False)
        # The model separates the colours too well, so two answers are made wrong.
        answers.loc[:1, "nearest_class_id"] = 5
        answers["correct"] = (answers["class_id"] == answers["nearest_class_id"]).astype(int)
        return Run(class_set, trained.model.eval(), recipe, trained.embeddings, answers, dataset)

    runs = [run("all_classes"), run("limited_classes")]
    options = {"queries": 5, "evaluated": 7, "seed": 1, "draws": 100}
    found = [
        explain(runs, study.dataset(), manifest, study.test_pack, "shorter32", **options)
        for _ in range(2)
    ]
    return study, runs, found


def test_explanation_holds_what_a_page_shows(explained):
    """Would catch a missing model, class or query, or maps in another order than their rows."""
    study, runs, ((table, maps, layer, localisation), again) = explained
    assert layer == "layer2"
    assert maps.dtype == np.uint8
    assert maps.shape == (len(table), 4, 4)
    assert table["map"].tolist() == list(range(len(table)))
    for run in runs:
        mine = table[table["class_set"] == run.class_set]
        assert mine["image_id"].nunique() == 5
        for _, row in mine.iterrows():
            answer = run.answers.loc[row["image_id"]]
            expected = answer["class_id" if row["which"] == "true_class" else "nearest_class_id"]
            assert row["class_id"] == expected
            assert row["correct"] == answer["correct"]
            assert row["unseen"] == (answer["class_id"] in run.unseen)
        assert mine["which"].value_counts().to_dict() == {"true_class": 5, "winning_class": 2}
        # Maps by hand, one at a time.
        row = mine.iloc[-1]
        images = ImageBatches(study.test_pack, 32, torch.device("cpu"))
        pixels = images.normalise(images.centre(torch.tensor([row["image_id"]])))
        proxy = run.proxies[row["class_id"]][None]
        heat = heat_maps(run.model, choose_layer(run.model, 32), pixels, proxy)[0]
        np.testing.assert_allclose(maps[row["map"]], 255 * heat / heat.max(), atol=1.01)
    assert localisation["map"].tolist() == [
        "all_classes", "limited_classes", "untrained", "uniform", "centred_gaussian",
    ]  # fmt: skip
    assert set(localisation["queries"]) == {7}
    # The same again, to the byte.
    pd.testing.assert_frame_equal(table, again[0])
    np.testing.assert_array_equal(maps, again[1])
    pd.testing.assert_frame_equal(localisation, again[3])


def test_files_give_back_what_was_written(explained, tmp_path):
    """Would catch a lost class called NA, or maps of one run with rows of another."""
    _, _, ((table, maps, layer, localisation), _) = explained
    table = table.assign(class_name="NA")
    save_heatmaps(tmp_path, Heatmaps(table, maps, localisation, layer, 32, "shorter32"))
    found = load_heatmaps(tmp_path)
    assert (found.layer, found.image_size, found.resize) == ("layer2", 32, "shorter32")
    np.testing.assert_array_equal(found.maps, maps)
    pd.testing.assert_frame_equal(found.table, table, atol=1e-6, check_dtype=False)
    pd.testing.assert_frame_equal(found.localisation, localisation, atol=1e-6, check_dtype=False)
    save_heatmaps(tmp_path, Heatmaps(table[1:], maps, localisation, layer, 32, "shorter32"))
    with pytest.raises(StudyError, match="rows"):
        load_heatmaps(tmp_path)


def test_overlay_colours_what_is_hot():
    """Would catch a map that is upside down, or an image that is darker where there is no heat."""
    image = np.full((32, 32, 3), 100, dtype=np.uint8)
    heat = np.zeros((4, 4), dtype=np.uint8)
    heat[0, 3] = 255
    found = overlay(image, heat)
    assert found.shape == image.shape
    assert found.dtype == np.uint8
    assert (found[-8:, :8] == 100).all()
    assert found[2, 29, 0] > 180 > 60 > found[2, 29, 2]


def test_pages_read_heat_maps_without_torch():
    """Would catch seconds for torch in each job that builds a page."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import dmlstudy.explain.heatmap_files; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'cv2', 'faiss')))"
    )
    scripts = str(Path(heatmap_files.__file__).resolve().parents[2])
    assert subprocess.run([sys.executable, "-c", code, scripts]).returncode == 0
