"""What of a backbone trains, what does not, and what fine-tuning needs beside it."""

import copy
import math

import numpy as np
import pytest
import timm
import torch
from helpers import TinyStudy, small_recipe
from torch import nn
from torch.nn import functional

from dmlstudy.compute import memory
from dmlstudy.compute.backbones.backbone import batchnorms
from dmlstudy.compute.embedding_model import build_backbone
from dmlstudy.compute.trained_parts.low_rank import LowRankLinear, merge
from dmlstudy.core.files import StudyError
from dmlstudy.train.building import build_model, build_optimizer, build_piece
from dmlstudy.train.run import train_run
from dmlstudy.train.trainer import Trainer, train_epoch

VIT, CONVNEXT = "timm/test_vit", "timm/test_convnext"
CPU = torch.device("cpu")
LORA = {"kind": "lora", "rank": 2, "alpha": 4.0, "layers": "attention_and_mlp"}
LAST = {"kind": "last_blocks", "blocks": 1}
NORMS = {"kind": "normalisation"}
ADAMW = {"kind": "adamw", "lr": 0.01, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("study"))


def trainer_of(study, **changes):
    recipe = small_recipe(**{"optimizer": ADAMW, **changes})
    dataset = study.dataset()
    rows = dataset.images("train")[:16]
    return Trainer(recipe, study.train_pack, rows, dataset.labels[rows], 6)


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# What changes, and what does not.


def begins(*prefixes):
    return lambda name, parameter: name.startswith(prefixes)


CASES = {
    # Stages and blocks, with the norm that follows the last one.
    ("resnet18", 32, "last"): (LAST, begins("layer4.")),
    ("resnet18", 32, "last 2"): ({**LAST, "blocks": 2}, begins("layer3.", "layer4.")),
    (VIT, 32, "last 2"): ({**LAST, "blocks": 2}, begins("blocks.4.", "blocks.5.", "norm.")),
    ("timm/test_vit3", 32, "last"): (LAST, begins("blocks.8.", "norm.", "attn_pool.")),
    (CONVNEXT, 32, "last"): (LAST, begins("stages.3.", "head.")),
    ("torchvision/mobilenet_v3_small", 32, "last 2"): (
        {**LAST, "blocks": 2},
        begins("features.11.", "features.12."),
    ),
    ("resnet18", 32, "norms"): (NORMS, lambda name, _: ".bn" in f".{name}" or "sample.1" in name),
    (VIT, 32, "norms"): (NORMS, lambda name, _: "norm" in name),
    (CONVNEXT, 32, "norms"): (
        NORMS,
        lambda name, _: "norm" in name or "stem.1" in name or "downsample.0" in name,
    ),
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[2]}")
def test_only_the_parts_change_bit_for_bit(study, case):
    """Would catch a weight that decays although it is frozen, a part too much, or a norm left behind."""
    name, _, _ = case
    parts, trains = CASES[case]
    trainer = trainer_of(study, backbone=name, trained_parts=parts, clip_gradients=1.0)
    before = snapshot(trainer.model)
    trainer.train_epoch()
    after = trainer.model.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    parameters = dict(trainer.model.backbone.named_parameters())
    expected = {f"backbone.{key}" for key, one in parameters.items() if trains(key, one)}
    of_parameters = {key for key in changed if key.removeprefix("backbone.") in parameters}
    assert of_parameters == expected
    assert 0 < len(expected) < len(parameters)
    assert {"head.weight", "head.bias"} <= changed
    for key, one in parameters.items():
        assert (one.grad is not None) == (f"backbone.{key}" in expected), key


def test_everything_trains_if_nobody_says_otherwise(study):
    """Would catch a default that freezes something, or draws random numbers."""
    states = []
    for changes in ({}, {"trained_parts": {"kind": "all"}}):
        trainer = trainer_of(study, **changes)
        before = snapshot(trainer.model)
        trainer.train_epoch()
        states.append(trainer.model.state_dict())
        assert all(p.requires_grad for p in trainer.model.parameters())
        assert not trainer.model.still
    assert all(torch.equal(states[0][key], states[1][key]) for key in before)
    assert not torch.equal(before["backbone.conv1.weight"], states[0]["backbone.conv1.weight"])


@pytest.mark.parametrize("parts", [LAST, NORMS, {"kind": "all"}], ids=lambda parts: parts["kind"])
def test_batchnorm_of_frozen_blocks_keeps_its_statistics(study, parts):
    """Would catch frozen weights behind statistics that move on, or trained norms with old statistics."""
    trainer = trainer_of(study, trained_parts=parts)
    before = snapshot(trainer.model)
    trainer.train_epoch()
    after = trainer.model.state_dict()
    for key in before:
        if key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            kept = parts is LAST and "layer4" not in key
            assert torch.equal(before[key], after[key]) == kept, key
    # A change of mode does not wake them.
    trainer.model.eval()
    trainer.model.train()
    still = [not layer.training for layer in batchnorms(trainer.model.backbone)]
    assert sum(still) == {"last_blocks": 15, "normalisation": 0, "all": 0}[parts["kind"]]


def test_frozen_batchnorm_and_last_blocks_together():
    """Would catch one that wakes what the other holds still."""
    model, _ = build_model(small_recipe(trained_parts=LAST, frozen_batchnorm=True), 6, 1)
    trains = {name for name, one in model.backbone.named_parameters() if one.requires_grad}
    assert trains == {
        *(f"layer4.{block}.conv{conv}.weight" for block in (0, 1) for conv in (1, 2)),
        "layer4.0.downsample.0.weight",
    }
    assert not any(layer.training for layer in batchnorms(model.backbone))
    with pytest.raises(StudyError, match="no weight of the backbone would train"):
        build_model(small_recipe(trained_parts=NORMS, frozen_batchnorm=True), 6, 1)


def test_head_and_loss_start_alike_whatever_trains():
    """Would catch random numbers of low-rank changes that give another head: kinds are compared."""
    states = []
    for parts in ({"kind": "all"}, LORA, LAST):
        recipe = small_recipe(backbone=VIT, trained_parts=parts, loss={"kind": "arcface"})
        model, loss = build_model(recipe, 6, 1)
        states.append([*model.head.state_dict().values(), *loss.state_dict().values()])
    for other in states[1:]:
        assert all(torch.equal(one, two) for one, two in zip(states[0], other, strict=True))


def test_no_gradient_is_computed_before_the_first_block_that_trains():
    """Would catch frozen blocks through which gradients flow all the same, for nobody."""
    for name, image in ((VIT, 32), ("resnet18", 32), (CONVNEXT, 32)):
        backbone = build_backbone(name, image)
        build_piece("trained_parts", LAST, backbone)
        outputs = {}

        def note(key, outputs=outputs):
            def hook(module, inputs, output):
                outputs[key] = output.requires_grad

            return hook

        last = backbone.blocks[-1][0]
        for key, module in backbone.module.named_modules():
            if key and any(True for _ in module.parameters(recurse=False)):
                module.register_forward_hook(note(key))
        backbone.module(torch.randn(2, 3, image, image))
        inside = {key for key, needed in outputs.items() if needed}
        own = {parameter.rpartition(".")[0] for parameter in backbone.blocks[-1]}
        assert inside == own & outputs.keys(), last


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 4),
        ("resnet50", 4),
        (VIT, 6),
        ("timm/test_vit3", 9),
        ("timm/vit_small_patch16_dinov3", 12),
        (CONVNEXT, 4),
        ("timm/test_efficientnet", 5),
        ("timm/swin_tiny_patch4_window7_224", 4),
        ("torchvision/mobilenet_v3_small", 13),
        ("torchvision/convnext_tiny", 8),
        ("torchvision/vit_b_32", 12),
        ("torchvision/densenet121", 7),
        ("torchvision/googlenet", 12),
        ("torchvision/vgg11", 8),
    ],
)
def test_blocks_are_in_the_order_in_which_they_run(name, count):
    """Would catch blocks in another order than they run, one forgotten, or a norm that is in none."""
    size = 224 if "swin" in name or "convnext_tiny" in name else 64
    with torch.device("meta"):
        backbone = build_backbone(name, size)
        images = torch.zeros(1, 3, size, size)
    assert len(backbone.blocks) == count
    names = [one for block in backbone.blocks for one in block]
    assert len(names) == len(set(names))
    of_block = {one: number for number, block in enumerate(backbone.blocks) for one in block}
    order = []
    for key, module in backbone.module.named_modules():
        own = [f"{key}.{one}" for one, _ in module.named_parameters(recurse=False)]
        if key and own:
            numbers = [of_block.get(one, -1) for one in own]
            module.register_forward_pre_hook(lambda *_, n=numbers: order.extend(n))
    backbone.module.eval()(images)
    assert order == sorted(order)
    # What is in no block stands before the first one.
    everything = [one for one, _ in backbone.module.named_parameters()]
    rest = set(everything) - set(names)
    assert rest == set(everything[: len(rest)])


@pytest.mark.parametrize(
    ("name", "parts", "words"),
    [
        ("resnet18", {"kind": "last_blocks", "blocks": 5}, "is 5, but this backbone has 4"),
        ("resnet18", {"kind": "lora"}, "no attention layers"),
        ("torchvision/vit_b_32", {"kind": "lora"}, "no attention layers"),
        ("torchvision/vgg11", NORMS, "no normalisation layers"),
    ],
)
def test_parts_that_a_backbone_lacks_are_refused(name, parts, words):
    """Would catch a recipe that silently trains nothing or everything."""
    with pytest.raises(StudyError, match=words):
        build_piece("trained_parts", parts, build_backbone(name, 32))


# Low-rank changes.


def test_a_low_rank_layer_is_a_linear_layer_of_the_summed_matrix():
    """Would catch a wrong scale, A and B exchanged, or a bias that is lost; also where weights are read."""
    torch.manual_seed(0)
    plain = nn.Linear(7, 5)
    layer = LowRankLinear(copy.deepcopy(plain), rank=3, alpha=6.0)
    values = torch.randn(4, 2, 7)
    assert torch.equal(layer(values), plain(values)), "the start is the plain layer"
    nn.init.normal_(layer.up)
    matrix = plain.weight.detach() + 2.0 * layer.up @ layer.down
    expected = functional.linear(values, matrix, plain.bias)
    torch.testing.assert_close(layer(values), expected)
    torch.testing.assert_close(functional.linear(values, layer.weight, layer.bias), expected)
    gradients = torch.autograd.grad(layer(values).square().sum(), [layer.down, layer.up])
    by_matrix = torch.autograd.grad(expected.square().sum(), [layer.down, layer.up])
    for one, other in zip(gradients, by_matrix, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    merged = layer.merged()
    assert type(merged) is nn.Linear
    torch.testing.assert_close(merged.weight, matrix)


@pytest.mark.parametrize(
    ("layers", "changed"),
    [("attention", {"qkv", "proj"}), ("attention_and_mlp", {"qkv", "proj", "fc1", "fc2"})],
)
def test_lora_trains_its_changes_alone(study, layers, changed):
    """Would catch a layer without a change, or weights that train beside the changes."""
    parts = {**LORA, "layers": layers}
    trainer = trainer_of(study, backbone=VIT, trained_parts=parts)
    before = snapshot(trainer.model)
    trainer.train_epoch()
    trainer.train_epoch()
    after = trainer.model.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    expected = {
        f"backbone.blocks.{block}.{'attn' if one in ('qkv', 'proj') else 'mlp'}.{one}.{part}"
        for block in range(6)
        for one in changed
        for part in ("down", "up")
    }
    assert moved == {*expected, "head.weight", "head.bias"}
    # What is stored has the names of the plain network, and other weights where there were changes.
    whole = timm.create_model("test_vit", num_classes=0, img_size=32)
    trainer.finish()
    stored = trainer.model.backbone.state_dict()
    assert stored.keys() == whole.state_dict().keys()
    for key, value in stored.items():
        linear = key.startswith("blocks") and key.split(".")[-2] in changed and "weight" in key
        stem, _, end = key.rpartition(".")
        own = f"backbone.{key}"
        start = before[own if own in before else f"backbone.{stem}.plain.{end}"]
        assert torch.equal(value, start) != linear, key


@pytest.mark.parametrize(
    ("name", "size"),
    [
        (VIT, 32),
        ("timm/test_vit3", 32),
        # Its attention reads the weights of a layer, and does not call it.
        ("timm/swinv2_tiny_window8_256", 64),
    ],
)
def test_merged_weights_give_the_same_embeddings(name, size):
    """Would catch a change that is lost, or counted twice, in what is stored."""
    model, _ = build_model(small_recipe(backbone=name, trained_parts=LORA, image_size=size), 6, 1)
    plain = build_backbone(name, size).module.eval()
    with torch.no_grad():
        for key, one in model.named_parameters():
            if key.endswith(".up"):
                nn.init.normal_(one, std=0.1)
        images = torch.randn(3, 3, size, size)
        unmerged = functional.normalize(model.eval()(images), dim=1)
        at_start = functional.normalize(model.head(plain(images)), dim=1)
        merge(model)
        merged = functional.normalize(model(images), dim=1)
        plain.load_state_dict(model.backbone.state_dict())
        reloaded = functional.normalize(model.head(plain(images)), dim=1)
    assert (merged - unmerged).abs().max() < 1e-5
    assert torch.equal(merged, reloaded)
    assert (merged - at_start).abs().max() > 1e-3


def test_a_run_stores_a_plain_backbone_with_its_embeddings(study):
    """Would catch a model.pt that only this training can load, or embeddings of other weights."""
    recipe = small_recipe(backbone=VIT, trained_parts=LORA, optimizer=ADAMW)
    run = train_run(recipe, study.dataset(), study.train_pack, study.test_pack)
    plain, _ = build_model(small_recipe(backbone=VIT), 6, 2)
    plain.load_state_dict(run.model.state_dict())
    assert np.isfinite(run.embeddings["gallery_embeddings"]).all()
    images = torch.randn(2, 3, 32, 32)
    # Which kernels compute depends on how weights lie in memory, and so do the last bits.
    torch.testing.assert_close(plain.eval()(images), run.model.eval()(images))


# Rates, clipping, decay.


def test_backbone_and_head_have_rates_of_their_own():
    """Would catch a rate for the wrong part, or one that the schedule forgets; by hand."""
    recipe = small_recipe(
        optimizer={"kind": "sgd", "lr": 0.5},
        backbone_lr=0.1,
        loss={"kind": "arcface"},
        loss_lr=2.0,
        schedule={"kind": "cosine", "warmup": 2},
        epochs=6,
    )
    model, loss = build_model(recipe, 6, 1)
    optimizer, schedule = build_optimizer(recipe, model, loss)
    groups = optimizer.param_groups
    members = [{id(p) for p in group["params"]} for group in groups]
    parts = (model.backbone, model.head, loss)
    assert members == [{id(p) for p in part.parameters()} for part in parts]
    seen = []
    for _ in range(6):
        seen.append([group["lr"] for group in groups])
        optimizer.step()
        schedule.step()
    # A third and two thirds; then half a cosine over the four epochs that are left.
    factors = [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * done / 4)) for done in range(4))]
    expected = [[rate * factor for rate in (0.1, 0.5, 2.0)] for factor in factors]
    np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_without_a_rate_for_the_backbone_the_groups_are_as_before():
    """Would catch a new key that changes the sums of old recipes."""
    model, loss = build_model(small_recipe(), 6, 1)
    optimizer, _ = build_optimizer(small_recipe(), model, loss)
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


@pytest.mark.parametrize("clip", [None, 0.01, 1000.0])
def test_gradients_are_clipped_to_a_norm_over_all_weights(clip):
    """Would catch a norm of each tensor, of the model alone, or gradients that are clipped after the step."""
    torch.manual_seed(0)
    model, loss = nn.Linear(5, 4), build_piece("loss", {"kind": "crossentropy"}, 3, 4)
    parameters = [*model.parameters(), *loss.parameters()]
    before = [p.detach().clone() for p in parameters]
    images, labels = torch.randn(6, 5), torch.arange(6) % 3
    gradients = torch.autograd.grad(loss(model(images), labels), parameters)
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in gradients))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    theirs = float(torch.nn.utils.clip_grad_norm_(parameters, 0.01))
    assert theirs == pytest.approx(norm, rel=1e-6)
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    train_epoch(model, loss, optimizer, [(images, labels)], CPU, "float32", clip)
    factor = 1.0 if clip is None else min(1.0, clip / norm)
    for parameter, start, gradient in zip(parameters, before, gradients, strict=True):
        torch.testing.assert_close(parameter, start - 0.5 * factor * gradient, rtol=1e-4, atol=1e-7)


def test_adamw_spares_biases_and_norms():
    """Would catch decay of a bias, or none of a matrix; a step is compared with torch's own."""
    recipe = small_recipe(backbone=VIT, optimizer=ADAMW, backbone_lr=0.001)
    model, loss = build_model(recipe, 6, 1)
    twin, _ = build_model(recipe, 6, 1)
    optimizer, _ = build_optimizer(recipe, model, loss)
    names = {id(p): name for name, p in model.named_parameters()}
    rates = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert len(rates) == len(list(model.parameters()))
    for name, (lr, decay) in rates.items():
        assert lr == (0.001 if name.startswith("backbone.") else 0.01), name
        spared = name.endswith("bias") or "norm" in name or name == "backbone.cls_token"
        assert decay == (0.0 if spared else 0.1), name
    # Each weight alone, with the rate and the decay that it should have.
    alone = [
        torch.optim.AdamW([one], lr=rates[name][0], weight_decay=rates[name][1])
        for name, one in twin.named_parameters()
    ]
    images = torch.randn(2, 3, 32, 32)
    for network in (model, twin):
        network(images).square().sum().backward()
    optimizer.step()
    for one in alone:
        one.step()
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, msg=name)


# Memory.


@pytest.mark.parametrize("parts", [LAST, {**LAST, "blocks": 2}, NORMS, LORA], ids=str)
@pytest.mark.parametrize(("name", "size"), [("resnet18", 64), (VIT, 96), (CONVNEXT, 96)])
def test_reckoned_memory_is_that_of_a_real_step(name, size, parts):
    """Would catch a recipe that asks for the memory of what is frozen, or for too little."""
    if parts is LORA and name != VIT:
        with pytest.raises(StudyError, match="no attention layers"):
            memory.trained(small_recipe(backbone=name, image_size=size, trained_parts=parts))
        return
    recipe = small_recipe(
        backbone=name, image_size=size, trained_parts=parts, optimizer={"kind": "adamw"}
    )
    model, loss = build_model(recipe.changed(head={"kind": "none"}), 6, 1)
    network = model.backbone
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    saved = {}

    def save(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        features = model(torch.randn(4, 3, size, size))
    kept = sum(t.untyped_storage().nbytes() for key, t in saved.items() if key not in own)
    reckoned = memory.trained(recipe)
    # A fused attention keeps less than the reckoning, which knows no fusion.
    least = 0.6 if name == VIT else 0.9
    assert least * 4 * reckoned.kept <= kept <= 1.02 * 4 * reckoned.kept
    optimizer, _ = build_optimizer(recipe, model, loss)
    features.square().sum().backward()
    optimizer.step()
    gradients = sum(p.grad.nbytes for p in network.parameters() if p.grad is not None)
    moments = sum(
        value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim
    )
    assert gradients == reckoned.weights
    assert moments == 2 * reckoned.weights
    whole = memory.trained(recipe.changed(trained_parts={"kind": "all"}))
    assert reckoned.weights < whole.weights
    assert reckoned.kept < whole.kept
    smaller = memory.needed_megabytes(recipe.changed(batch_size=256))
    everything = recipe.changed(batch_size=256, trained_parts={"kind": "all"})
    assert smaller <= memory.needed_megabytes(everything)
