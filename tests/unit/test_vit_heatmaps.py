"""EmbeddingCAM of vision transformers: the same identity as for ResNets, or a slow reference."""

import numpy as np
import pytest
import torch
from helpers import unit
from test_heatmaps import HEADS, cam, effective_matrix
from torch import nn

from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone
from dmlstudy.explain.heatmaps import choose_layer, heat_maps
from dmlstudy.train.building import build_piece

SIZE = 64
# Mean of the image's tokens after the last norm; a class token and four registers are left out.
MEAN = "timm/vit_small_patch16_dinov3"
# Mean of the image's tokens, then a norm of the mean: a LayerNorm, a norm without a mean.
NORM_AFTER = ["timm/test_vit2", "timm/test_vit4"]


def built(name):
    """A `Backbone` in eval mode whose layer scales hide nothing."""
    torch.manual_seed(0)
    backbone = build_backbone(name, SIZE)
    for key, parameter in backbone.module.named_parameters():
        if "gamma" in key or ".ls" in key:
            nn.init.constant_(parameter, 1.0)
    backbone.module.eval()
    return backbone


def drawn(kind, width):
    """A head in eval mode none of whose parts is neutral."""
    torch.manual_seed(5)
    head = build_piece("head", {"kind": kind, **HEADS[kind]}, width)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.1)
        for module in head.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    return head.eval()


def output_of(model, name, images):
    """What the module ``name`` of a model's backbone gives, without gradients."""
    seen = []
    handle = model.backbone.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: seen.append(output.detach().clone())
    )
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


@pytest.fixture(scope="module")
def images():
    return torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))


@pytest.mark.parametrize("kind", HEADS)
def test_mean_of_a_transformers_tokens_is_cam_with_the_proxys_class_vector(images, kind):
    """Would catch registers in the map or in its mean, another grid, or a wrong layer or gradient."""
    backbone = built(MEAN)
    head = drawn(kind, backbone.feature_dim)
    model = EmbeddingModel(backbone, head).eval()
    proxies = unit(np.random.default_rng(0), 4, 16)
    layer = choose_layer(model, SIZE)
    assert layer.name == "norm"
    found = heat_maps(model, layer, images, proxies)
    tokens = output_of(model, "norm", images)
    # By hand: a class token and four registers stand before the sixteen of the image.
    assert tokens.shape[1] == 1 + 4 + 16
    grid = tokens[:, 5:].reshape(4, 4, 4, -1).permute(0, 3, 1, 2)
    with torch.no_grad():
        vectors = torch.from_numpy(proxies) @ effective_matrix(kind, head)
        expected = cam(grid, vectors) / 16
    assert found.shape == (4, 4, 4)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-4
    assert (found.max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize("name", NORM_AFTER)
def test_with_a_norm_after_the_mean_the_class_vector_goes_through_its_jacobian(images, name):
    """Would catch a norm that is taken for the identity: the map is CAM at the linearised norm."""
    backbone = built(name)
    head = drawn("linear", backbone.feature_dim)
    model = EmbeddingModel(backbone, head).eval()
    proxies = unit(np.random.default_rng(0), 4, 16)
    layer = choose_layer(model, SIZE)
    found = heat_maps(model, layer, images, proxies)
    grid = layer.to_map(output_of(model, layer.name, images))
    norm = model.backbone.fc_norm
    pooled = grid.mean(dim=(2, 3))
    with torch.no_grad():
        class_vectors = torch.from_numpy(proxies) @ head.weight
    vectors = torch.stack(
        [
            torch.autograd.functional.jacobian(norm, mean).T @ vector
            for mean, vector in zip(pooled, class_vectors, strict=True)
        ]
    )
    expected = cam(grid, vectors) / (grid.shape[2] * grid.shape[3])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert (found.max(axis=(1, 2)) > 0).all()


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        # The class token alone is used; with a token of distillation beside it; pooling by attention.
        ("timm/test_vit", 1),
        ("timm/deit_tiny_distilled_patch16_224", 2),
        ("timm/test_vit3", 1),
    ],
)
def test_maps_of_a_class_token_are_those_of_finite_differences(images, name, extra):
    """Would catch a gradient that is taken at the wrong place; nothing here is differentiated."""
    backbone = built(name)
    model = EmbeddingModel(backbone, drawn("linear", backbone.feature_dim)).eval()
    proxies = unit(np.random.default_rng(0), 2, 16)
    layer = choose_layer(model, SIZE)
    found = heat_maps(model, layer, images[:2], proxies)

    model.double()
    tokens = output_of(model, layer.name, images[:2].double())
    count = tokens.shape[1] - extra
    assert count == 16
    step, slopes = 1e-4, torch.empty(2, tokens.shape[2], dtype=torch.float64)
    change = torch.zeros(tokens.shape[2], dtype=torch.float64)

    def moved(module, inputs, output):
        return torch.cat([output[:, :extra], output[:, extra:] + change], dim=1)

    def scores():
        with torch.no_grad():
            return (model(images[:2].double()) * torch.from_numpy(proxies)).sum(dim=1)

    handle = layer.module.register_forward_hook(moved)
    for channel in range(tokens.shape[2]):
        change[channel] = step
        above = scores()
        change[channel] = -step
        slopes[:, channel] = (above - scores()) / (2 * step)
        change[channel] = 0
    handle.remove()
    # All tokens of the image moved at once: the slope is the sum of the gradients, Grad-CAM's their mean.
    grid = tokens[:, extra:].reshape(2, 4, 4, -1).permute(0, 3, 1, 2)
    expected = cam(grid, slopes / count)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4 * expected.max())
    assert found.max() > 0
