"""Exported networks compute what torch computes, and preprocessing can be written from its data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers import MAX_PIXELS, manifest_of, noise, small_recipe
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from dmlstudy.compute.batches import MEAN, STD, ImageBatches
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.core.files import StudyError
from dmlstudy.data.pack import Pack, write_pack
from dmlstudy.train.building import build_model
from dmlstudy.use.export import checking, folder, licence, place
from dmlstudy.use.export.card import escaped, trained
from dmlstudy.use.export.networks import load_exported, write_networks
from dmlstudy.use.export.place import ONNX, PROGRAM, WEIGHTS
from dmlstudy.use.export.preprocessing import preprocessing
from dmlstudy.use.trained_model import TrainedModel

CPU = torch.device("cpu")
# Backbone, head and loss of a recipe; one of each family and each head.
FAMILIES = {
    "resnet, two layers": ("resnet18", "skip_connection", "epshn"),
    "mobilenet, batchnorm": ("torchvision/mobilenet_v2", "batchnorm", "proxy_nca"),
    "vit, linear": ("timm/test_vit", "linear", "arcface"),
    "convnext, projection": ("timm/test_convnext", "simclr_projection", "epshn"),
    "vit, classifier": ("timm/test_vit", "none", "crossentropy"),
    "vit, cosine classifier": ("timm/test_vit", "linear", "normalized_softmax"),
}


def write_model(path, backbone="timm/test_vit", head="linear", loss="epshn", seed=1):
    """A model.pt with random weights and statistics; returns its `EmbeddingModel` and loss."""
    recipe = small_recipe(backbone=backbone, head={"kind": head}, loss={"kind": loss})
    model, loss = build_model(recipe, 3, seed)
    generator = torch.Generator().manual_seed(seed)
    for name, buffer in model.named_buffers():
        # Statistics that are not their initial values, so that a model in train mode shows.
        if name.endswith("running_mean"):
            buffer.copy_(torch.randn(buffer.shape, generator=generator) / 10)
    save_weights(
        path,
        {
            "model": model.state_dict(),
            "loss": loss.state_dict(),
            "recipe": recipe.as_dict(),
            "class_ids": [0, 2, 3],
            "class_names": ["a", "b", "c", "d"],
            "test_resize": "shorter32",
            "mean": MEAN,
            "std": STD,
        },
    )
    return model.eval(), loss.eval()


def batches(tmp_path, count=5):
    """`ImageBatches` of a pack of noise."""
    images = tmp_path / "noise"
    images.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{index}.png" for index in range(count)]
    for name in names:
        noise(rng, 40, 50).save(images / name)
    write_pack(
        tmp_path / "pack", images, manifest_of(images, names), "shorter32", max_pixels=MAX_PIXELS
    )
    return ImageBatches(Pack(tmp_path / "pack"), 32, CPU)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The folder of an exported ViT, its images and its `ExportedModel`."""
    path = tmp_path_factory.mktemp("exported")
    write_model(path / "model.pt")
    model, _ = load_exported(path / "model.pt")
    (path / "out").mkdir()
    write_networks(model, 32, path / "out")
    return path / "out", batches(path), model


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_gives_what_torch_gives(tmp_path, family):
    """Would catch a layer that an exporter drops, a fixed batch, train mode, or a missing output."""
    model, loss = write_model(tmp_path / "model.pt", *FAMILIES[family])
    exported, _ = load_exported(tmp_path / "model.pt")
    write_networks(exported, 32, tmp_path)
    images = batches(tmp_path)
    differences, found = checking.check_networks(tmp_path, exported, images, range(5), 1)
    # The plain way, from the network that was stored.
    batch = images.normalise(images.centre(torch.arange(5)))
    with torch.inference_mode():
        embeddings = model(batch)
        lengths = embeddings.square().sum(dim=1, keepdim=True).sqrt()
    expected = {"embeddings": (embeddings / lengths).numpy()}
    if FAMILIES[family][2] in ("crossentropy", "normalized_softmax"):
        with torch.inference_mode():
            expected["logits"] = loss.logits(embeddings).numpy()
    np.testing.assert_allclose(found, expected["embeddings"], atol=1e-5)
    session = checking.onnxruntime.InferenceSession(tmp_path / ONNX)
    assert [output.name for output in session.get_outputs()] == list(expected)
    program = torch.export.load(tmp_path / PROGRAM).module()
    for count in (1, 4):
        some = batch[:count].contiguous()
        for name, one, other in zip(
            expected, session.run(None, {"images": some.numpy()}), program(some), strict=True
        ):
            np.testing.assert_allclose(one, expected[name][:count], atol=1e-4)
            np.testing.assert_allclose(other.detach(), expected[name][:count], atol=1e-4)
    assert {name: set(outputs) for name, outputs in differences.items()} == {
        ONNX: set(expected),
        PROGRAM: set(expected),
    }
    stored = load_file(tmp_path / WEIGHTS)
    for name, value in model.state_dict().items():
        assert torch.equal(stored[name], value)


def test_planted_wrong_weight_is_found(exported, tmp_path):
    """Would catch a check that compares nothing, or a file with itself."""
    source, images, model = exported
    for name in (ONNX, PROGRAM, WEIGHTS):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    checking.check_networks(tmp_path, model, images, range(5), 1)
    graph = onnx.load(tmp_path / ONNX)
    # The last bias of the head: one number of it is enough.
    (bias,) = [one for one in graph.graph.initializer if one.name.endswith("head.bias")]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += 0.1
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(graph, tmp_path / ONNX)
    with pytest.raises(StudyError, match=r"^model\.onnx: embeddings differs from torch by up to"):
        checking.check_networks(tmp_path, model, images, range(5), 1)
    (tmp_path / ONNX).write_bytes((source / ONNX).read_bytes())
    state = load_file(source / WEIGHTS)
    state["head.bias"][0] += 1e-6
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(StudyError, match=r"^model\.safetensors: head\.bias is not that"):
        checking.check_networks(tmp_path, model, images, range(5), 1)
    (tmp_path / ONNX).write_bytes(b"no graph")
    with pytest.raises(StudyError, match="cannot load this file"):
        checking.check_networks(tmp_path, model, images, range(5), 1)


def test_output_that_is_no_number_is_refused():
    """Would catch NaN, which is not above any limit."""
    checking.refuse_above({"a": {"x": 1e-3}})
    for value in (1.001e-3, float("nan")):
        with pytest.raises(StudyError, match="a: x differs from torch"):
            checking.refuse_above({"a": {"x": value}})
    assert np.isnan(checking.max_or_nan(0.5, float("nan")))
    assert np.isnan(checking.max_or_nan(float("nan"), 0.5))


def photographs(path):
    """Photographs of several modes, with an orientation, transparency and deep grey."""
    rng, found = np.random.default_rng(3), []

    def add(name, image, **options):
        image.save(path / name, **options)
        found.append(path / name)

    add("plain.png", noise(rng, 61, 47))
    add("high.png", noise(rng, 45, 90))
    turned = Image.Exif()
    turned[274] = 6
    add("turned.jpg", noise(rng, 70, 50), exif=turned)
    clear = noise(rng, 50, 50).convert("RGBA")
    clear.putalpha(Image.fromarray(rng.integers(0, 256, (50, 50), dtype=np.uint8)))
    add("clear.png", clear)
    add("palette.png", noise(rng, 48, 52).quantize(16), transparency=3)
    add("grey.png", noise(rng, 40, 44).convert("L"))
    add("deep.png", Image.fromarray(rng.integers(0, 4096, (44, 40)).astype(np.uint16)))
    add("small.png", noise(rng, 20, 25))
    return found


def input_by(data, path):
    """The input of the model for a photograph, written from preprocessing.json alone."""
    steps = {step["step"]: step for step in data["steps"]}
    assert list(steps) == ["decode", "to_rgb", "resize", "centre_crop", "normalise", "arrange"]
    image = Image.open(path)
    assert steps["decode"]["exif_orientation"] == "applied"
    image = ImageOps.exif_transpose(image)
    rgb = steps["to_rgb"]
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.int64)
        bits = min(bits for bits in rgb["deep_grey"]["depths"] if values.max() < 2**bits)
        image = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("RGBA"))
        back = Image.new("RGBA", image.size, (*rgb["background"], 255))
        image = Image.alpha_composite(back, Image.fromarray(pixels))
    image = image.convert(rgb["channel_order"])
    resize = steps["resize"]
    width, height = image.size
    size = [resize["size"]] * 2
    if resize["mode"] == "shorter":
        # "floor(size * longer / shorter)"
        other = resize["size"] * max(width, height) // min(width, height)
        size = [resize["size"], other] if width <= height else [other, resize["size"]]
    image = image.resize(size, getattr(Image.Resampling, resize["interpolation"].upper()))
    crop, pixels = steps["centre_crop"], np.asarray(image)
    # np.round rounds half to even.
    top = int(np.round((pixels.shape[0] - crop["height"]) / 2))
    left = int(np.round((pixels.shape[1] - crop["width"]) / 2))
    pixels = pixels[top : top + crop["height"], left : left + crop["width"]]
    normal = steps["normalise"]
    values = (pixels / normal["divide_by"] - normal["mean"]) / normal["std"]
    assert steps["arrange"]["layout"] == "NCHW"
    return np.moveaxis(values, 2, 0)[None].astype(steps["arrange"]["dtype"])


@pytest.mark.parametrize("resize", ["shorter32", "shorter36_bicubic", "squash32"])
def test_preprocessing_can_be_written_from_its_data(tmp_path, resize):
    """Would catch a step that the data leaves out, or says wrongly."""
    write_model(tmp_path / "model.pt", "resnet18")
    stored = torch.load(tmp_path / "model.pt", weights_only=True)
    stored["test_resize"], stored["mean"] = resize, (0.1, 0.2, 0.3)
    torch.save(stored, tmp_path / "model.pt")
    # As a reader gets it: numbers and texts only.
    data = json.loads(json.dumps(preprocessing(stored)))
    model = TrainedModel(tmp_path / "model.pt")
    for path in photographs(tmp_path):
        crop = torch.from_numpy(model.crop(path, MAX_PIXELS)).permute(2, 0, 1)[None]
        images = ImageBatches(
            OneCrop(crop), 32, CPU, mean=stored["mean"], std=stored["std"]
        )  # fmt: skip
        expected = images.normalise(crop).numpy()
        found = input_by(data, path)
        assert found.shape == expected.shape, path
        np.testing.assert_allclose(found, expected, atol=2e-6, err_msg=str(path))


class OneCrop:
    """As much of a pack as `ImageBatches` asks of a crop that is already cut."""

    def __init__(self, crop):
        self.pixels = crop.numpy().reshape(-1)
        self.offsets = np.array([0])
        self.heights = self.widths = np.array([32])


def test_only_an_export_is_replaced(tmp_path):
    """Would catch photographs or a run that an export removes."""
    (tmp_path / "new").mkdir()
    place.check_replaceable("--out", tmp_path / "new")
    place.check_replaceable("--out", tmp_path / "missing")
    (tmp_path / "new" / ONNX).touch()
    place.check_replaceable("--out", tmp_path / "new")
    (tmp_path / "new" / "photo.jpg").touch()
    with pytest.raises(StudyError, match=r"other files \(photo\.jpg\)"):
        place.check_replaceable("--out", tmp_path / "new")
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    with pytest.raises(StudyError, match="this is a link"):
        place.check_replaceable("--out", tmp_path / "link")


def test_names_cannot_change_the_card():
    """Would catch a class name that breaks a table, or is read as HTML or a link."""
    assert escaped("a|b\n<script>_x_[y](z)") == r"a\|b \<script\>\_x\_\[y\](z)"


@pytest.mark.parametrize(
    ("head", "loss", "changes", "said"),
    [
        ("linear", {}, {}, "head, backbone"),
        ("none", {"W": 1}, {"trained_parts": {"kind": "all"}}, "loss, backbone"),
        (
            "linear",
            {"W": 1},
            {"trained_parts": {"kind": "last_blocks", "blocks": 2}},
            r"head, loss, part of the backbone: last\_blocks (blocks 2)",
        ),
        (
            "linear",
            {"W": 1},
            {"backbone_trains": False},
            "head, loss; the backbone was frozen: its weights are the starting weights",
        ),
        ("linear", {"W": 1}, {"backbone_trains": False, "epochs": 0}, "nothing"),
    ],
)
def test_card_says_which_parts_trained(head, loss, changes, said):
    """Would catch a frozen backbone that passes for a trained one, and the reverse."""
    recipe = {"head": {"kind": head}, "epochs": 2, **changes}
    assert trained({"recipe": recipe, "loss": loss}) == said


class SourceOf:
    """A `Source` as far as licences are concerned."""

    def __init__(self, initializer, pretraining=None):
        self.description = {"recipe": {"initializer": initializer}}
        self.pretraining = pretraining


def test_licence_is_only_what_somebody_states():
    """Would catch a guessed licence, or one of weights that the run does not start from."""
    known = {"label": "DINOv2", "license": "Apache-2.0", "source": "its page"}
    text = licence.licence(SourceOf("imagenet", known), "timm/x")[1]
    assert "DINOv2, Apache-2.0 (its page)" in text
    assert licence.licence(SourceOf("imagenet"), "timm/convnext_tiny.in12k")[0] == "apache-2.0"
    for start, backbone in (("imagenet", "resnet18"), ("ours", "timm/convnext_tiny.in12k")):
        name, text = licence.licence(SourceOf(start), backbone)
        assert name is None
        assert text.startswith("Not known")
    assert "No weights of others" in licence.licence(SourceOf("scratch"), "resnet18")[1]


def test_torch_starts_after_mistakes_are_told():
    """Would catch an import of torch or the runtimes in what the program reads first."""
    scripts = Path(folder.__file__).parents[3]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import export; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'onnxruntime', 'faiss')))"
    )
    assert subprocess.run([sys.executable, "-c", code, scripts]).returncode == 0


def test_onnx_runtime_tells_nobody(tmp_path):
    """Would catch telemetry, which is on by default: the file of its session shows it."""
    environment = {key: value for key, value in os.environ.items() if key[:4] != "ORT_"}
    environment |= {"TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(folder.__file__).parents[3])}
    code = "import dmlstudy.use.export.checking"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
