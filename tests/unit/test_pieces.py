"""Losses, heads, freezing, optimizers and schedules equal a second computation by hand."""

import math

import pytest
import torch
from helpers import small_recipe
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
from torch import nn
from torch.nn import functional

from dmlstudy.compute.embedding_model import EmbeddingModel, build_backbone
from dmlstudy.core import registry
from dmlstudy.train.building import build_optimizer, build_piece
from dmlstudy.train.trainer import train_epoch

CPU = torch.device("cpu")
CLASSES, DIM = 4, 6


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def loss_of(kind, **parameters):
    return build_piece("loss", {"kind": kind, **parameters}, CLASSES, DIM)


def batch(count=16):
    """Embeddings of any length, and labels with some classes of one member."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % (CLASSES - 1)
    labels[-1] = CLASSES - 1
    embeddings = 3 * torch.randn(count, DIM, generator=generator)
    return embeddings.requires_grad_(), labels


def close(value, expected, tolerance=1e-5):
    torch.testing.assert_close(
        torch.as_tensor(value, dtype=torch.float64),
        torch.as_tensor(expected, dtype=torch.float64),
        atol=tolerance,
        rtol=tolerance,
    )


# Losses.


def epshn_by_hand(embeddings, labels, distance, temperature):
    """The easiest positive and the nearest negative that is farther away; then NT-Xent."""
    unit = functional.normalize(embeddings.detach().double())
    losses = []
    for anchor, label in enumerate(labels.tolist()):

        def nearness(other, anchor=anchor):
            if distance == "cosine":
                return float(unit[anchor] @ unit[other])
            return -float((unit[anchor] - unit[other]).norm())

        others = [i for i in range(len(labels)) if i != anchor]
        positives = [nearness(i) for i in others if labels[i] == label]
        if not positives:
            continue
        negatives = [nearness(i) for i in others if labels[i] != label]
        negatives = [value for value in negatives if value < max(positives)]
        if not negatives:
            continue
        positive = math.exp(max(positives) / temperature)
        losses.append(-math.log(positive / (positive + math.exp(max(negatives) / temperature))))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_epshn(distance, temperature):
    """Would catch hard positives or hardest negatives, another temperature, a swapped distance."""
    embeddings, labels = batch()
    value = loss_of("epshn", distance=distance, temperature=temperature)(embeddings, labels)
    close(value, epshn_by_hand(embeddings, labels, distance, temperature))
    other = {"cosine": "euclidean", "euclidean": "cosine"}[distance]
    assert abs(value.item() - epshn_by_hand(embeddings, labels, other, temperature)) > 1e-4


def test_epshn_has_the_studys_defaults():
    """Would catch the library's temperature of 0.07 in place of the study's 0.1."""
    embeddings, labels = batch()
    close(loss_of("epshn")(embeddings, labels), epshn_by_hand(embeddings, labels, "cosine", 0.1))
    assert list(loss_of("epshn").parameters()) == []


def test_epshn_of_fixed_shape_is_the_librarys():
    """Would catch a differently chosen pair, a tie, or a single anchor that counts."""
    draw = torch.Generator().manual_seed(0)
    without = 0
    for number in range(1000):
        count, dim = (
            int(torch.randint(*limits, (1,), generator=draw)) for limits in ((2, 100), (4, 130))
        )
        # From one class alone to as many as there are images.
        classes = int(torch.randint(1, 2 * count, (1,), generator=draw)) if number % 4 else count
        labels = (
            torch.randint(classes, (count,), generator=draw) if number % 4 else torch.arange(count)
        )
        embeddings = torch.randn(count, dim, generator=draw)
        # Duplicates, and embeddings like those of a trained model.
        embeddings[count // 2] = embeddings[0]
        if number % 3 == 0:
            embeddings += 5 * torch.randn(int(labels.max()) + 1, dim, generator=draw)[labels]
        options = {
            "distance": ("cosine", "euclidean")[number % 2],
            "temperature": (0.1, 0.5)[number // 2 % 2],
        }
        found = []
        for implementation in ("fixed_shape", "library"):
            leaf = embeddings.clone().requires_grad_()
            value = loss_of("epshn", implementation=implementation, **options)(leaf, labels)
            value.backward()
            found.append((value.detach(), leaf.grad))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        without += found[1][0].item() == 0
    assert 200 < without < 500


def test_epshn_of_fixed_shape_hides_no_divergence():
    """Would catch NaN embeddings with a loss of 0, so that the training continues."""
    embeddings = torch.full((4, DIM), torch.nan)
    for implementation in ("fixed_shape", "library"):
        value = loss_of("epshn", implementation=implementation)(
            embeddings, torch.tensor([0, 0, 1, 1])
        )
        assert value.isnan()


@pytest.mark.parametrize("labels", [range(6), [0] * 6])
def test_epshn_without_pairs_is_zero(labels):
    """Would catch NaN in a batch that holds no positive (or no negative) pair."""
    embeddings = torch.randn(6, DIM, requires_grad=True)
    value = loss_of("epshn")(embeddings, torch.tensor(list(labels)))
    value.backward()
    assert value.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def arcface_by_hand(cosines, labels):
    """Mean cross-entropy of 64·cos θ, the true class's θ being 28.6 degrees larger."""
    losses = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        angle = math.acos(row[label]) + math.radians(28.6)
        assert angle < math.pi
        row[label] = math.cos(angle)
        largest = 64 * max(row)
        total = sum(math.exp(64 * value - largest) for value in row)
        losses.append(largest + math.log(total) - 64 * row[label])
    return sum(losses) / len(losses)


def test_arcface():
    """Would catch a margin in radians, a scale of 1, or sub-centres in plain ArcFace."""
    loss = loss_of("arcface")
    assert loss.W.shape == (DIM, CLASSES)
    embeddings, labels = batch()
    cosines = functional.normalize(embeddings.detach().double()) @ functional.normalize(
        loss.W.detach().double(), dim=0
    )
    close(loss(embeddings, labels), arcface_by_hand(cosines, labels), 1e-4)


def test_subcenter_arcface():
    """Would catch plain ArcFace under this name (the published notebooks swap the two)."""
    loss = loss_of("subcenter_arcface")
    assert loss.W.shape == (DIM, CLASSES * 3)
    embeddings, labels = batch()
    cosines = functional.normalize(embeddings.detach().double()) @ functional.normalize(
        loss.W.detach().double(), dim=0
    )
    nearest = cosines.view(-1, CLASSES, 3).amax(dim=2)
    close(loss(embeddings, labels), arcface_by_hand(nearest, labels), 1e-4)
    assert loss_of("subcenter_arcface", sub_centers=5).W.shape == (DIM, CLASSES * 5)


@pytest.mark.parametrize("parameters", [{}, {"softmax_scale": 3.0}])
def test_proxy_nca(parameters):
    """Would catch a scale other than 1, or distances that are not squared."""
    loss = loss_of("proxy_nca", **parameters)
    scale = parameters.get("softmax_scale", 1)
    assert loss.proxies.shape == (CLASSES, DIM)
    embeddings, labels = batch()
    unit = functional.normalize(embeddings.detach().double())
    proxies = functional.normalize(loss.proxies.detach().double())
    losses = []
    for one, label in zip(unit, labels.tolist(), strict=True):
        weights = [math.exp(-scale * float(((one - proxy) ** 2).sum())) for proxy in proxies]
        losses.append(-math.log(weights[label] / sum(weights)))
    close(loss(embeddings, labels), sum(losses) / len(losses))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_crossentropy(smoothing):
    """Would catch normalised embeddings, a missing bias, or a softmax taken twice."""
    loss = loss_of("crossentropy", label_smoothing=smoothing)
    embeddings, labels = batch()
    weight, bias = loss.classifier.weight.double(), loss.classifier.bias.double()
    logits = embeddings.double() @ weight.T + bias
    close(loss.logits(embeddings), logits)
    shares = (logits - logits.exp().sum(dim=1, keepdim=True).log()).detach()
    truth = shares[torch.arange(len(labels)), labels]
    expected = -((1 - smoothing) * truth + smoothing * shares.mean(dim=1)).mean()
    close(loss(embeddings, labels), expected)


@pytest.mark.parametrize("temperature", [0.5, 0.1])
def test_simclr_loss(temperature):
    """Would catch views paired wrongly, labels used, or an image that is its own negative."""
    views = torch.randn(10, DIM)
    value = loss_of("simclr", temperature=temperature)(views, torch.zeros(10))
    unit = functional.normalize(views.double())
    losses = []
    for i in range(10):
        weights = [math.exp(float(unit[i] @ unit[k]) / temperature) for k in range(10)]
        losses.append(-math.log(weights[(i + 5) % 10] / (sum(weights) - weights[i])))
    close(value, sum(losses) / 10)
    theirs = SelfSupervisedLoss(NTXentLoss(temperature=temperature))
    close(value, theirs(views[:5], views[5:]))


def cosines_to(embeddings, weights):
    """Cosines (batch, count) of the rows of embeddings and weights, in double precision."""
    rows = functional.normalize(embeddings.detach().double())
    return rows @ functional.normalize(weights.detach().double()).T


def softmax_loss(logits, labels):
    """Mean cross-entropy of logits, row by row."""
    losses = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        largest = max(row)
        total = sum(math.exp(value - largest) for value in row)
        losses.append(largest + math.log(total) - row[label])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("parameters", [{}, {"margin": 0.3, "alpha": 8.0}])
def test_proxy_anchor(parameters):
    """Would catch margins of the wrong sign, or a mean over all proxies instead of those present."""
    loss = loss_of("proxy_anchor", **parameters)
    margin, alpha = parameters.get("margin", 0.1), parameters.get("alpha", 32)
    assert loss.proxies.shape == (CLASSES, DIM)
    embeddings, labels = batch(12)
    # The last class is absent: its proxy only pushes away.
    labels = labels % (CLASSES - 1)
    cosines = cosines_to(embeddings, loss.proxies).tolist()
    pulls, pushes = [], []
    for proxy in range(CLASSES):
        near = [row[proxy] for row, label in zip(cosines, labels, strict=True) if label == proxy]
        far = [row[proxy] for row, label in zip(cosines, labels, strict=True) if label != proxy]
        pushes.append(math.log(1 + sum(math.exp(alpha * (value + margin)) for value in far)))
        if near:
            pulls.append(math.log(1 + sum(math.exp(-alpha * (value - margin)) for value in near)))
    assert len(pulls) == CLASSES - 1
    expected = sum(pulls) / len(pulls) + sum(pushes) / CLASSES
    close(loss(embeddings, labels), expected, 1e-4)


def multi_similarity_by_hand(embeddings, labels, alpha, beta, base, epsilon):
    """Pairs harder than the hardest pair of the other type minus epsilon; then the weighted sums."""
    cosines = cosines_to(embeddings, embeddings).tolist()
    losses = []
    for anchor, row in enumerate(cosines):
        others = [i for i in range(len(labels)) if i != anchor]
        positives = [row[i] for i in others if labels[i] == labels[anchor]]
        negatives = [row[i] for i in others if labels[i] != labels[anchor]]
        hardest = max(negatives)
        easiest = min(positives) if positives else math.inf
        near = [value for value in positives if value - epsilon < hardest]
        far = [value for value in negatives if value + epsilon > easiest]
        pull = math.log(1 + sum(math.exp(-alpha * (value - base)) for value in near)) / alpha
        push = math.log(1 + sum(math.exp(beta * (value - base)) for value in far)) / beta
        losses.append(pull + push)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(
    "parameters", [{}, {"alpha": 5.0, "beta": 20.0, "base": 0.7, "epsilon": 0.4}]
)
def test_multi_similarity(parameters):
    """Would catch a loss without its miner, or swapped scales of positives and negatives."""
    defaults = {"alpha": 2, "beta": 50, "base": 0.5, "epsilon": 0.1}
    embeddings, labels = batch()
    # Separated classes, so that some pairs are too easy to be mined.
    embeddings = (embeddings + 6 * torch.eye(CLASSES, DIM)[labels]).detach().requires_grad_()
    value = loss_of("multi_similarity", **parameters)(embeddings, labels)
    parameters = defaults | parameters
    close(value, multi_similarity_by_hand(embeddings, labels, **parameters), 1e-4)
    for key in parameters:
        other = {**parameters, key: 2 * parameters[key]}
        assert abs(value.item() - multi_similarity_by_hand(embeddings, labels, **other)) > 1e-4
    unmined = multi_similarity_by_hand(embeddings, labels, **{**parameters, "epsilon": 2})
    assert abs(value.item() - unmined) > 1e-4


@pytest.mark.parametrize(
    "parameters", [{}, {"centers_per_class": 3, "la": 8.0, "gamma": 0.5, "margin": 0.2}]
)
def test_soft_triple(parameters):
    """Would catch an inverted temperature, or centers of the wrong classes."""
    loss = loss_of("soft_triple", **parameters)
    defaults = {"centers_per_class": 10, "la": 20, "gamma": 0.1, "margin": 0.01}
    centers, la, gamma, margin = (defaults | parameters).values()
    assert loss.fc.shape == (DIM, CLASSES * centers)
    embeddings, labels = batch()
    cosines = cosines_to(embeddings, loss.fc.T).view(-1, CLASSES, centers)
    logits = []
    for row, label in zip(cosines.tolist(), labels.tolist(), strict=True):
        scores = []
        for mine in row:
            weights = [math.exp(value / gamma) for value in mine]
            mean = sum(w * value for w, value in zip(weights, mine, strict=True)) / sum(weights)
            scores.append(la * mean)
        scores[label] -= la * margin
        logits.append(scores)
    close(loss(embeddings, labels), softmax_loss(torch.tensor(logits), labels), 1e-4)


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.5}])
def test_normalized_softmax(parameters):
    """Would catch logits multiplied by the temperature, or embeddings of any length."""
    loss = loss_of("normalized_softmax", **parameters)
    assert loss.W.shape == (DIM, CLASSES)
    embeddings, labels = batch()
    logits = cosines_to(embeddings, loss.W.T) / parameters.get("temperature", 0.05)
    close(loss(embeddings, labels), softmax_loss(logits, labels), 1e-4)
    close(loss(2 * embeddings, labels), softmax_loss(logits, labels), 1e-4)


@pytest.mark.parametrize("parameters", [{}, {"temperature": 0.5}])
def test_supcon(parameters):
    """Would catch an anchor among its own negatives, or the mean taken inside the logarithm."""
    embeddings, labels = batch(12)
    logits = (cosines_to(embeddings, embeddings) / parameters.get("temperature", 0.1)).tolist()
    losses = []
    for anchor, row in enumerate(logits):
        others = [i for i in range(len(labels)) if i != anchor]
        total = math.log(sum(math.exp(row[i]) for i in others))
        shares = [total - row[i] for i in others if labels[i] == labels[anchor]]
        if shares:
            losses.append(sum(shares) / len(shares))
    assert 0 < len(losses) < len(labels), "one anchor has no positive, and does not count"
    close(loss_of("supcon", **parameters)(embeddings, labels), sum(losses) / len(losses), 1e-4)


@pytest.mark.parametrize("kind", ["multi_similarity", "supcon"])
def test_pair_losses_without_positives_have_a_gradient(kind):
    """Would catch NaN, or no gradient at all, in a plain batch that holds no positive pair."""
    assert list(loss_of(kind).parameters()) == []
    embeddings = torch.randn(6, DIM, requires_grad=True)
    value = loss_of(kind)(embeddings, torch.arange(6))
    value.backward()
    assert value.item() == 0
    assert torch.equal(embeddings.grad, torch.zeros_like(embeddings))


def test_losses_differ():
    """Would catch two names for the same loss."""
    embeddings, labels = batch()
    values = []
    for kind in registry.kinds("loss"):
        torch.manual_seed(2)
        values.append(round(loss_of(kind)(embeddings, labels).item(), 4))
    assert len(set(values)) == len(values)


def one_step(kind, loss_lr, lr=0.5):
    """(before, gradient, after) of a loss's weights in one step of SGD, and the learning rates of the groups."""
    model, loss = nn.Linear(5, DIM), loss_of(kind)
    recipe = small_recipe(optimizer={"kind": "sgd", "lr": lr}, loss_lr=loss_lr)
    optimizer, schedule = build_optimizer(recipe, model, loss)
    own = next(loss.parameters())
    before = own.detach().clone()
    head = model.weight.detach().clone()
    data = [(torch.randn(12, 5), torch.arange(12) % CLASSES)]
    value = train_epoch(model, loss, optimizer, data, CPU, "float32")
    assert math.isfinite(value)
    assert not torch.equal(model.weight, head)
    schedule.step()
    return before, own.grad, own.detach(), [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize(
    "kind",
    [
        "proxy_nca",
        "arcface",
        "subcenter_arcface",
        "crossentropy",
        "proxy_anchor",
        "soft_triple",
        "normalized_softmax",
    ],
)
@pytest.mark.parametrize("loss_lr", [None, 0.02])
def test_weights_of_a_loss_train(kind, loss_lr):
    """Would catch proxies or class weights without an optimizer, or loss_lr ignored."""
    before, gradient, after, rates = one_step(kind, loss_lr)
    rate = 0.5 if loss_lr is None else loss_lr
    assert gradient.abs().max() > 0
    torch.testing.assert_close(after, before - rate * gradient)
    assert rates == [0.5, rate]


def test_mean_loss_of_an_epoch():
    """Would catch the loss of the last batch, or a sum, in the curve."""
    model, loss = nn.Linear(5, DIM), loss_of("crossentropy")
    data = [(torch.randn(4, 5), torch.arange(4)) for _ in range(3)]
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.0)
    values = [loss(model(images), labels).item() for images, labels in data]
    assert train_epoch(model, loss, optimizer, data, CPU, "float32") == pytest.approx(
        sum(values) / 3
    )


# Heads.


def head_of(kind, features=20, **parameters):
    return build_piece("head", {"kind": kind, **parameters}, features)


def test_linear_head():
    """Would catch an activation or a second layer, or a missing bias."""
    head = head_of("linear", embedding_dim=7)
    features = torch.randn(3, 20)
    assert sorted(p.shape for p in head.parameters()) == [(7,), (7, 20)]
    close(head(features), features @ head.weight.T + head.bias)
    assert head_of("linear")(features).shape == (3, 128)


def test_no_head():
    """Would catch weights between the features and the embedding."""
    head = head_of("none")
    features = torch.randn(3, 20)
    assert head(features) is features
    assert list(head.parameters()) == []


def test_skip_connection_head():
    """Would catch a gate that starts open or closed, one gate for all dimensions, or no skip connection."""
    head = head_of("skip_connection", embedding_dim=7).eval()
    assert head.gate.shape == (7,)
    assert torch.equal(head.gate, torch.zeros(7))
    features = torch.randn(3, 20)
    first = features @ head.fc1.weight.T + head.fc1.bias
    second = first @ head.fc2.weight.T + head.fc2.bias
    close(head(features), first + 0.5 * second)
    with torch.no_grad():
        head.gate[2] = 50.0
        head.gate[3] = -50.0
    close(head(features)[:, 2:4], torch.stack([(first + second)[:, 2], first[:, 3]], dim=1))


def test_dropout_of_the_skip_connection_head():
    """Would catch dropout outside training, or on the skip connection."""
    features = torch.randn(3, 20)
    head = head_of("skip_connection", embedding_dim=7, dropout=1.0).train()
    first = features @ head.fc1.weight.T + head.fc1.bias
    close(head(features), first + 0.5 * head.fc2.bias)
    head = head_of("skip_connection", embedding_dim=64)
    assert head.dropout.p == 0.1
    assert not torch.equal(head.train()(features), head(features))
    assert torch.equal(head.eval()(features), head(features))


def test_batchnorm_head():
    """Would catch an initialisation other than Xavier's, or an embedding without BatchNorm."""
    head = head_of("batchnorm", 512, embedding_dim=128)
    bound = math.sqrt(6 / (512 + 128))
    assert 0.99 * bound < head[0].weight.abs().max() <= bound
    assert torch.equal(head[0].bias, torch.zeros(128))
    embeddings = head.train()(5 + 3 * torch.randn(64, 512))
    close(embeddings.mean(dim=0), torch.zeros(128), 1e-4)
    close(embeddings.var(dim=0, unbiased=False), torch.ones(128), 1e-3)
    assert not any(isinstance(m, nn.BatchNorm1d) for m in head_of("linear").modules())


def test_simclr_projection_head():
    """Would catch a linear projection, which costs SimCLR its accuracy."""
    head = head_of("simclr_projection", hidden_dim=32, embedding_dim=9).eval()
    widths = [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
    assert widths == [(20, 32), (32, 9)]
    a, b = torch.randn(2, 4, 20)
    assert not torch.allclose(head(a) + head(b), head(a + b) + head(torch.zeros(4, 20)), atol=1e-3)


# Freezing.


def batchnorm_state(model):
    return {
        f"{name}.{key}": value.clone()
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for key, value in module.state_dict().items()
    }


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batchnorm(frozen):
    """Would catch frozen statistics or affine weights that change, or a freeze of everything."""
    backbone, features = build_backbone("resnet18")
    model = EmbeddingModel(backbone, nn.Linear(features, DIM), frozen_batchnorm=frozen)
    """Would catch frozen statistics or affine weights that change, or a freeze of everything."""
    backbone = build_backbone("resnet18", 32)
    model = EmbeddingModel(backbone, nn.Linear(512, DIM), frozen_batchnorm=frozen)
    loss = loss_of("crossentropy")
    recipe = small_recipe(
        optimizer={"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    )
    optimizer, _ = build_optimizer(recipe, model, loss)
    before, weights = batchnorm_state(model), model.backbone.conv1.weight.detach().clone()
    data = [(torch.randn(4, 3, 32, 32), torch.arange(4)) for _ in range(2)]
    train_epoch(model, loss, optimizer, data, CPU, "float32")
    changed = {key for key, value in batchnorm_state(model).items() if (value != before[key]).any()}
    assert changed == (set() if frozen else set(before))
    assert not torch.equal(model.backbone.conv1.weight, weights)


def test_head_batchnorm_is_not_frozen():
    """Would catch a freeze that reaches the head, which has no ImageNet statistics to keep."""
    backbone = build_backbone("resnet18", 32)
    model = EmbeddingModel(backbone, head_of("batchnorm", 512), frozen_batchnorm=True).train()
    assert model.head[1].training
    assert model.head[1].weight.requires_grad
    assert not model.backbone.bn1.training
    assert model.eval().train().backbone.bn1.training is False


# Backbones.


@pytest.mark.parametrize(("stride", "size"), [(1, (1, 1)), (2, (1, 1)), (2, (2, 2)), (2, (1, 2))])
@pytest.mark.parametrize("bias", [False, True])
def test_single_pixel_convolution_equals_the_full_one(size, stride, bias):
    """Would catch a tap left out that reaches the image, in values or in either gradient."""
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
    plain, _ = build_backbone("resnet18")
    ours, _ = build_backbone("resnet18")
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
    again, _ = build_backbone("resnet18")
    again.load_state_dict(stored)
    # Taps that the map does not reach belong to what is stored, too.
    other, _ = build_backbone("resnet18")
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
    plain, _ = build_backbone("resnet18")
    ours, _ = build_backbone("resnet18")
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


def test_larger_images_leave_the_network_as_it_is():
    """Would catch a network of the published study that is not torchvision's."""
    network, _ = build_backbone("resnet18")
    trim_to(network, 224)
    ours = (SinglePixelConv2d, SmallMapConv2d)
    assert not [module for module in network.modules() if isinstance(module, ours)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [32, 64])
def test_resnet18_equals_torchvisions(training, size):
    """Would catch a backbone that is not torchvision's, on which its weights would mean nothing."""
    plain = torchvision.models.resnet18(weights=None)
    plain.fc = nn.Identity()
    ours, features = build_backbone("resnet18")
    ours.load_state_dict(plain.state_dict())
    images = torch.randn(4, 3, size, size)
    plain, ours = plain.train(training), ours.train(training)
    with torch.no_grad():
        # A BatchNorm over four values magnifies rounding: in training compare in float64.
        if training:
            plain, ours, images = plain.double(), ours.double(), images.double()
        expected, found = plain(images), ours(images)
    assert found.shape == (4, features) == (4, 512)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_resnet50_has_2048_features():
    """Would catch a width that does not fit the network."""
    with torch.device("meta"):
        backbone, features = build_backbone("resnet50")
        assert backbone(torch.zeros(2, 3, 64, 64)).shape == (2, features) == (2, 2048)
    with pytest.raises(StudyError, match=r"resnet34.*resnet18, resnet50"):
        build_backbone("resnet34")


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
    backbone, _ = build_backbone("resnet18")
    load_backbone_weights(backbone, tmp_path / "w.pt")
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state.get(key, torch.tensor(0)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("layer2.0.conv1.weight"), r"layer2\.0\.conv1\.weight is missing"),
        (lambda s: s.update({"bn1.bias": torch.zeros(3)}), r"bn1\.bias .*3.*not \(64,\)"),
        (lambda s: s.update({"bn1.bias": "text"}), r"bn1\.bias is str"),
        (lambda s: s.update({"extra": torch.zeros(3)}), r"extra does not belong"),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, change, words):
    """Would catch weights of another network loaded as far as they fit."""
    saved(tmp_path / "weights.pt", change)
    backbone, _ = build_backbone("resnet18")
    before = backbone.conv1.weight.detach().clone()
    with pytest.raises(StudyError, match=rf"weights\.pt: {words}"):
        load_backbone_weights(backbone, tmp_path / "weights.pt")
    assert torch.equal(backbone.conv1.weight, before)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_weights_never_run_code(tmp_path):
    """Would catch a downloaded file that is unpickled."""
    torch.save({"conv1.weight": Attack(tmp_path / "owned")}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("weights.pt", "text.pt", "list.pt"):
        with pytest.raises(StudyError, match=name):
            load_backbone_weights(build_backbone("resnet18")[0], tmp_path / name)
    assert not (tmp_path / "owned").exists()


# Optimizers and schedules.


def stepped(kind, gradients, **parameters):
    """A weight of 1.0 after steps with given gradients."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = build_piece("optimizer", {"kind": kind, **parameters}, [weight])
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        optimizer.step()
    return weight.item()


def test_sgd():
    """Would catch unwanted momentum, or weight decay and momentum swapped."""
    assert stepped("sgd", [2.0, 2.0]) == pytest.approx(1 - 0.001 * 4)
    assert stepped("sgd", [2.0, 4.0], lr=0.1) == pytest.approx(1 - 0.2 - 0.4)
    assert stepped("sgd", [2.0, 4.0], lr=0.1, momentum=0.5) == pytest.approx(1 - 0.2 - 0.5)
    assert stepped("sgd", [2.0], lr=0.1, weight_decay=0.5) == pytest.approx(1 - 0.1 * 2.5)


def test_adam():
    """Would catch SGD under this name: Adam's first step does not depend on the gradient's size."""
    for gradient in (0.1, 100.0):
        assert stepped("adam", [gradient]) == pytest.approx(1 - 0.001)
        assert stepped("adam", [-gradient], lr=0.2) == pytest.approx(1 + 0.2)
    # First moment 0.1·(0.9·1 − 3), second 0.001·(0.999·1 + 9), both corrected for their start.
    moment, square = 0.1 * (0.9 - 3) / 0.19, 0.001 * (0.999 + 9) / (1 - 0.999**2)
    expected = 1 - 0.1 - 0.1 * moment / math.sqrt(square)
    assert stepped("adam", [1.0, -3.0], lr=0.1) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({"kind": "constant"}, [1] * 6),
        ({"kind": "constant", "warmup": 2}, [1 / 3, 2 / 3, 1, 1, 1, 1]),
        ({"kind": "step", "every": 2, "factor": 0.1}, [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ({"kind": "step"}, [1] * 6),
        (
            {"kind": "cosine"},
            [1, 0.5 + math.sqrt(3) / 4, 0.75, 0.5, 0.25, 0.5 - math.sqrt(3) / 4],
        ),
        (
            {"kind": "cosine", "warmup": 2},
            [1 / 3, 2 / 3, 1, 0.5 + math.sqrt(2) / 4, 0.5, 0.5 - math.sqrt(2) / 4],
        ),
    ],
)
def test_schedules(schedule, factors):
    """Would catch a rate stepped per batch, a warm-up from zero, or loss_lr without a schedule."""
    model, loss = nn.Linear(2, DIM), loss_of("proxy_nca")
    recipe = small_recipe(
        optimizer={"kind": "sgd", "lr": 0.4}, loss_lr=0.02, schedule=schedule, epochs=6
    )
    optimizer, scheduler = build_optimizer(recipe, model, loss)
    rates = []
    for _ in range(6):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    close(rates, [[0.4 * factor, 0.02 * factor] for factor in factors], 1e-12)
