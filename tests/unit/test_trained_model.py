"""A run's model.pt put to use: photographs are treated as the test pack treats them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import MAX_PIXELS, TinyStudy, noise, pack_of, small_recipe
from PIL import Image

from dmlstudy.compute.batches import MEAN, STD, ImageBatches
from dmlstudy.compute.checkpoints import save_weights
from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.core.files import StudyError
from dmlstudy.train.building import build_model
from dmlstudy.train.run import train_run
from dmlstudy.use import photographs
from dmlstudy.use.photographs import class_name_of, find_photos, stored_path
from dmlstudy.use.trained_model import TrainedModel, load_model


def contents(recipe, model, resize):
    return {
        "model": model.state_dict(),
        "recipe": recipe.as_dict(),
        "test_resize": resize,
        "mean": MEAN,
        "std": STD,
    }


def untrained(folder, resize="shorter32", **changes):
    """A model.pt with random weights; returns (path, model)."""
    recipe = small_recipe(**changes)
    model, _ = build_model(recipe, 4, 42)
    # Statistics that are not their initial values, so that a model in train mode shows.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    save_weights(folder / "model.pt", contents(recipe, model, resize))
    return folder / "model.pt", model


def assorted(folder):
    """Images of every kind that a camera, a scanner or a web page may leave; returns their names."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    noise(rng, 61, 43).save(folder / "wide.png")
    noise(rng, 40, 75).save(folder / "tall.jpg", quality=95)
    noise(rng, 32, 32).save(folder / "exact.png")
    noise(rng, 20, 27).save(folder / "small.png")
    exif = Image.Exif()
    exif[274] = 6
    noise(rng, 70, 41).save(folder / "turned.jpg", exif=exif)
    noise(rng, 50, 50).convert("L").save(folder / "grey.png")
    noise(rng, 50, 40).convert("P").save(folder / "palette.gif")
    noise(rng, 45, 50).convert("RGBA").save(folder / "transparent.png")
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("resize", ["shorter32", "squash32"])
def test_photograph_is_embedded_as_the_pack_is(tmp_path, resize):
    """Would catch another decoder, size, filter, crop, normalisation or mode than in training."""
    names = assorted(tmp_path / "photos")
    path, model = untrained(tmp_path, resize)
    pack = pack_of(tmp_path / "photos", names, resize)
    images = ImageBatches(pack, 32, torch.device("cpu"))
    model.to(memory_format=torch.channels_last)
    expected = normalised(embed(model, images, range(len(names)), "float32"))
    found, readable, problems = TrainedModel(path).embed(
        [tmp_path / "photos" / name for name in names], max_pixels=MAX_PIXELS
    )
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32
    assert not load_model(path)[0].training
    assert [photo.name for photo in readable] == names
    assert problems == []


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "none"},
        {"kind": "batchnorm", "embedding_dim": 8},
        {"kind": "skip_connection", "embedding_dim": 8, "dropout": 0.1},
    ],
    ids=lambda head: head["kind"],
)
def test_trained_model_gives_the_embeddings_of_its_run(tmp_path, head):
    """Would catch a head, frozen statistics or trimmed kernels that a file does not bring back."""
    study = TinyStudy(tmp_path)
    recipe = small_recipe(head=head, epochs=1, frozen_batchnorm=True)
    run = train_run(recipe, study.dataset(), study.train_pack, study.test_pack)
    save_weights(tmp_path / "model.pt", contents(recipe, run.model, "shorter32"))
    for part in ("gallery", "query"):
        ids = run.embeddings[f"{part}_image_ids"]
        paths = [tmp_path / "images" / study.manifest["path"][i] for i in ids]
        found = TrainedModel(tmp_path / "model.pt").embed(paths, max_pixels=MAX_PIXELS)[0]
        np.testing.assert_array_equal(found, run.embeddings[f"{part}_embeddings"])


def test_embedding_depends_on_its_company_in_the_last_bits_only(tmp_path):
    """Would catch BatchNorm in train mode, which makes an answer depend on the other photographs."""
    names = assorted(tmp_path / "photos")
    model = TrainedModel(untrained(tmp_path)[0])
    photos = [tmp_path / "photos" / name for name in names]
    together = model.embed(photos, max_pixels=MAX_PIXELS)[0]
    alone = [model.embed([photo], max_pixels=MAX_PIXELS)[0] for photo in photos]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "bfloat16"},
        {"precision": "bfloat16", "head": {"kind": "linear", "embedding_dim": 8}},
        {"precision": "bfloat16", "backbone": "timm/test_vit", "image_size": 32},
        {"precision": "float32"},
    ],
    ids=lambda changes: "-".join(str(one) for one in changes.values())[:30],
)
def test_weights_that_were_cast_once_give_the_same_embeddings(tmp_path, changes):
    """Would catch a layer that computes in another precision when its weights are kept in it."""
    names = assorted(tmp_path / "photos")
    model = TrainedModel(untrained(tmp_path, **changes)[0])
    photos = [tmp_path / "photos" / name for name in names]
    expected = model.embed(photos, max_pixels=MAX_PIXELS)[0]
    before = {one.dtype for one in model.model.parameters()}
    model.keep_cast_weights()
    np.testing.assert_array_equal(model.embed(photos, max_pixels=MAX_PIXELS)[0], expected)
    after = {one.dtype for one in model.model.parameters()}
    assert before == {torch.float32}
    assert (torch.bfloat16 in after) == (changes["precision"] == "bfloat16")


def test_unreadable_photographs_are_named_and_the_others_embedded(tmp_path, monkeypatch):
    """Would catch one broken file that costs all answers, or answers that move up by one."""
    monkeypatch.setattr("dmlstudy.use.trained_model.images_at_a_time", lambda device, size: 3)
    names = assorted(tmp_path / "photos")
    model = TrainedModel(untrained(tmp_path)[0])
    good = [tmp_path / "photos" / name for name in names]
    expected = model.embed(good, max_pixels=MAX_PIXELS)[0]
    bad = [
        tmp_path / name for name in ("text.jpg", "cut.png", "empty.jpg", "narrow.png", "huge.png")
    ]
    bad[0].write_text("no image")
    bad[1].write_bytes((tmp_path / "photos/wide.png").read_bytes()[:900])
    bad[2].write_bytes(b"")
    Image.new("RGB", (1, 3000)).save(bad[3])
    Image.new("RGB", (1001, 1000)).save(bad[4])
    mixed = [bad[0], good[0], bad[1], *good[1:5], bad[2], bad[3], bad[4], *good[5:]]
    done = []
    found, readable, problems = model.embed(mixed, max_pixels=MAX_PIXELS, progress=done.append)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert readable == good
    assert sum(done) == len(mixed)
    for path, problem in zip(bad, problems, strict=True):
        assert problem.startswith(f"{path}: ")
    assert model.embed(bad, max_pixels=MAX_PIXELS)[0].shape[0] == 0


def change(key, value):
    """Change of what a model file holds: ``key`` with dots; None removes it."""

    def apply(stored):
        *outer, last = key.split(".")
        for part in outer:
            stored = stored[part]
        if value is None:
            del stored[last]
        else:
            stored[last] = value

    return apply


# What is wrong with a model file: (change of its contents, words that must stand in the message).
MISTAKES = {
    "no weights": (change("model", None), ["model is missing", "another version"]),
    "no transform": (change("test_resize", None), ["test_resize is missing"]),
    "no head": (change("recipe.head", None), ["recipe.head is missing"]),
    "recipe of another kind": (change("recipe", [1]), ["not a run's model.pt"]),
    "unknown resize": (change("test_resize", "crop32"), ["cannot build", "crop32"]),
    "unknown backbone": (change("recipe.backbone", "vit"), ["cannot build", "'vit'", "resnet18"]),
    "unknown head": (change("recipe.head", {"kind": "mlp"}), ["cannot build", "mlp"]),
    "unknown parameter": (
        change("recipe.head", {"kind": "linear", "width": 8}),
        ["cannot build", "width"],
    ),
    "weights of another head": (
        change("recipe.head", {"kind": "linear", "embedding_dim": 9}),
        ["cannot build", "head.weight"],
    ),
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("model"))[0]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_model_that_cannot_be_used_is_refused_in_words(model_file, tmp_path, mistake):
    """Would catch a traceback, or embeddings of something else than was trained."""
    apply, words = MISTAKES[mistake]
    stored = torch.load(model_file, weights_only=True)
    apply(stored)
    torch.save(stored, tmp_path / "model.pt")
    with pytest.raises(StudyError) as error:
        load_model(tmp_path / "model.pt")
    for word in (str(tmp_path / "model.pt"), *words):
        assert word in str(error.value)


class Malice:
    def __reduce__(self):
        return (print, ("unpickled",))


def test_file_that_is_no_model_is_refused(tmp_path, capsys):
    """Would catch code that a downloaded file brings along and that loading runs."""
    path = tmp_path / "model.pt"
    with pytest.raises(StudyError, match="missing"):
        load_model(path)
    path.write_text("weights")
    with pytest.raises(StudyError, match=r"model\.pt: not a model that can be loaded safely"):
        load_model(path)
    torch.save({"model": Malice()}, path)
    with pytest.raises(StudyError, match=r"model\.pt: not a model that can be loaded safely"):
        load_model(path)
    assert "unpickled" not in capsys.readouterr().out
    torch.save([1, 2], path)
    with pytest.raises(StudyError, match=r"not a run's model\.pt"):
        load_model(path)


def test_photographs_of_a_folder_come_in_the_order_of_a_data_set(tmp_path, monkeypatch):
    """Would catch an order that depends on the file system, on which ties of similarity hang."""
    for name in (
        "b/2.JPG",
        "b/10.png",
        "a.webp",
        "c.txt",
        ".hidden.jpg",
        ".git/x.jpg",
        "d.jpg/e.gif",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = tmp_path / "photos"
    found, problems, left_out = find_photos([folder])
    assert [path.relative_to(folder).as_posix() for path in found] == [
        "a.webp",
        "b/10.png",
        "b/2.JPG",
        "d.jpg/e.gif",
    ]
    assert problems == []
    assert [sentence.split(": ")[0] for sentence in left_out] == [
        str(folder / name) for name in (".git", ".hidden.jpg")
    ]
    # A file is taken whatever it is called; the same one only once; what is missing is said.
    (tmp_path / "empty").mkdir()
    found, problems, _ = find_photos(
        [folder / "c.txt", folder / "b", folder / "b/2.JPG", tmp_path / "empty", tmp_path / "none"]
    )
    assert [path.name for path in found] == ["c.txt", "10.png", "2.JPG"]
    assert [problem.split(": ")[0] for problem in problems] == [
        str(tmp_path / "empty"),
        str(tmp_path / "none"),
    ]
    monkeypatch.chdir(folder)
    assert stored_path("a.webp") == str(folder.resolve() / "a.webp")


def test_path_that_is_not_text_can_be_stored():
    """Would catch a file name in another encoding that ends an enrolment with a traceback."""
    assert stored_path("/x/caf\udce9.jpg") == "/x/caf\\xe9.jpg"


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "bell\a", "\x1b[31mred", "a\u2028b"])
def test_class_name_of_several_lines_is_refused(name):
    """Would catch a name that breaks a line of a table or speaks to the terminal."""
    with pytest.raises(StudyError, match="one line of printable characters"):
        class_name_of(name)


def test_class_name_is_what_was_typed():
    """Would catch a name that is escaped, cut or lower-cased, or two that differ by a blank."""
    for name in ("Blue Tit", "<script>alert(1)</script>", "Kohlmeise, ♂", "a'b\"c", "NA", "../x"):
        assert class_name_of(f" {name} ") == name


def test_programs_start_without_torch():
    """Would catch seconds that a mistake in a command line costs before it is told."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import name_photos, enrol, index_gallery, "
        "remove_class; sys.exit(any(name in sys.modules for name in ('torch', 'torchvision', 'faiss')))"
    )
    scripts = Path(photographs.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code, scripts]).returncode == 0
