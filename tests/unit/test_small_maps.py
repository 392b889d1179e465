"""Convolutions on maps of a few pixels are those of the plain network, and are used where they can act."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from dmlstudy.compute.embedding_model import build_backbone
from dmlstudy.compute.small_maps import SinglePixelConv2d, SmallMapConv2d, _with_small_map, trim_to


@pytest.mark.parametrize(("stride", "size"), [(1, (1, 1)), (2, (1, 1)), (2, (2, 2)), (2, (1, 2))])
@pytest.mark.parametrize("bias", [False, True])
def test_single_pixel_convolution_equals_the_full_one(size, stride, bias):
    """Would catch a tap left out that reaches the picture, in values or in either gradient."""
    plain = nn.Conv2d(5, 4, 3, stride=stride, padding=1, bias=bias).double()
    ours = SinglePixelConv2d(plain, *size)
    images = torch.randn(3, 5, *size, dtype=torch.float64)
    results = []
    for layer in (plain, ours):
        given = images.clone().to(memory_format=torch.channels_last).requires_grad_()
        output = layer(given)
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), given.grad])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    reached = plain.weight.grad[ours.reach].flatten(1)
    torch.testing.assert_close(ours.weight.grad, reached, atol=1e-12, rtol=1e-12)
    outside = plain.weight.grad.clone()
    outside[ours.reach] = 0
    assert not outside.any()


def test_trimmed_network_trains_as_the_plain_one_and_saves_its_weights():
    """Would catch a step that moves other weights, or a file that only a trimmed network can read."""
    torch.manual_seed(0)
    plain = build_backbone("resnet18", 32).module
    ours = build_backbone("resnet18", 32).module
    ours.load_state_dict(plain.state_dict())
    trim_to(ours, 32)
    trimmed = [m for m in ours.modules() if isinstance(m, SinglePixelConv2d)]
    assert len(trimmed) == 4
    plain, ours = plain.double().train(), ours.double().train()
    images = torch.randn(6, 3, 32, 32, dtype=torch.float64)
    for network in (plain, ours):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            (network(images) * torch.linspace(0, 1, 512)).sum().backward()
            optimizer.step()
    stored = ours.state_dict()
    assert stored.keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(stored[key], value, atol=1e-8, rtol=1e-8)
    again = build_backbone("resnet18", 32).module
    again.load_state_dict(stored)
    # Taps that the map does not reach belong to what is stored, too.
    other = build_backbone("resnet18", 32).module
    trim_to(other, 32)
    other.double().load_state_dict(stored)
    assert all(torch.equal(other.state_dict()[key], value) for key, value in stored.items())
    with pytest.raises(ValueError, match="made for maps"):
        ours(torch.randn(2, 3, 64, 64, dtype=torch.float64))


# Up to four pixels of output everything is a product of matrices, up to sixteen the kernel's gradient.
SMALL_MAPS = [
    ((2, 2), 1, 3, 1),
    ((4, 4), 2, 3, 1),
    ((3, 4), 2, 3, 1),
    ((1, 4), 1, 3, 1),
    ((2, 2), 1, 1, 0),
    ((4, 3), 2, 1, 0),
    ((5, 5), 2, 3, 0),
    ((4, 4), 1, 3, 1),
    ((7, 8), 2, 3, 1),
    ((4, 4), 1, 1, 0),
]


@pytest.mark.parametrize(("size", "stride", "kernel", "padding"), SMALL_MAPS)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_convolution_on_a_small_map_equals_the_plain_one(
    size, stride, kernel, padding, memory_format
):
    """Would catch taps in another order, a stride that is forgotten, or a gradient left out."""
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 4, kernel, stride=stride, padding=padding, bias=False).double()
    ours = _with_small_map(plain)
    ours.weight = nn.Parameter(plain.weight.detach().clone(memory_format=memory_format))
    images = torch.randn(3, 5, *size, dtype=torch.float64).to(memory_format=memory_format)
    results = []
    for layer in (plain, ours):
        given = images.clone().requires_grad_()
        output = layer(given)
        (output * torch.arange(output.numel()).view_as(output)).sum().backward()
        results.append([output.detach(), given.grad, layer.weight.grad])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    frozen = ours.requires_grad_(False)(images)
    torch.testing.assert_close(frozen, plain(images).detach(), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 4])
def test_small_map_under_autocast_is_the_plain_one_rounded(size):
    """Would catch a product in float32 where bfloat16 was asked for, or a gradient of the wrong type."""
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 8, 3, padding=1, bias=False)
    ours = _with_small_map(plain)
    ours.weight = nn.Parameter(plain.weight.detach().clone())
    images = torch.randn(6, 16, size, size)
    results = []
    for layer in (plain, ours):
        given = images.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = layer(given)
        assert output.dtype == torch.bfloat16
        output.float().square().sum().backward()
        assert given.grad.dtype == layer.weight.grad.dtype == torch.float32
        results.append([output.detach().float(), given.grad, layer.weight.grad])
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() < 0.01 * expected.norm()


def test_network_with_small_maps_trains_as_the_plain_one():
    """Would catch a step that moves other weights, or a file that a plain network cannot read."""
    torch.manual_seed(0)
    plain = build_backbone("resnet18", 32).module
    ours = build_backbone("resnet18", 32).module
    ours.load_state_dict(plain.state_dict())
    trim_to(ours, 64)
    # All of the third and of the last stage.
    assert len([m for m in ours.modules() if isinstance(m, SmallMapConv2d)]) == 10
    plain, ours = plain.double().train(), ours.double().train()
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    for network in (plain, ours):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(2):
            optimizer.zero_grad()
            (network(images) * torch.linspace(0, 1, 512)).sum().backward()
            optimizer.step()
    assert ours.state_dict().keys() == plain.state_dict().keys()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, atol=1e-8, rtol=1e-8)


def test_larger_pictures_leave_the_network_as_it_is():
    """Would catch a network of the published study that is not torchvision's."""
    network = build_backbone("resnet18", 32).module
    trim_to(network, 224)
    ours = (SinglePixelConv2d, SmallMapConv2d)
    assert not [module for module in network.modules() if isinstance(module, ours)]


# In this order: what has been imported stays.
NETWORKS = [(224, "cpu", False), (32, "cuda", False), (32, "cpu", True)]


@pytest.fixture(scope="module")
def imported():
    """{(size, device): whether the module was there after the network}, from one process for all."""
    code = (
        "import sys, torch\n"
        "from helpers import small_recipe\n"
        "from dmlstudy.train.building import build_model\n"
        f"for size, device, _ in {NETWORKS}:\n"
        "    build_model(small_recipe(image_size=size), 4, 42, None, torch.device(device))\n"
        "    print('dmlstudy.compute.small_maps' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
        capture_output=True,
        text=True,
    )
    answers = done.stdout.split()[-len(NETWORKS) :]
    return {network[:2]: said for network, said in zip(NETWORKS, answers, strict=True)}


@pytest.mark.parametrize(("size", "device", "used"), NETWORKS)
def test_small_maps_are_touched_only_where_they_can_act(imported, size, device, used):
    """Would catch a GPU or a study of large images that computes with convolutions made for neither."""
    assert imported[size, device] == str(used)
