"""Entries become complete recipes; mistakes are named; digests follow what counts and nothing else."""

import ast
import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml

from dmlstudy.core import addresses, source_code
from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError
from dmlstudy.plan import arguments, configuration, identity, recipes
from dmlstudy.plan.parameters import parameters
from dmlstudy.plan.planning import plan
from dmlstudy.plan.recipes import RecipeError, resolve
from dmlstudy.plan.sources import place, read_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = [str(ROOT / "config" / name) for name in ("config.yaml", "experiments.yaml")]

# Values of later keys that change nothing.
PLAIN = {"backbone_lr": None, "clip_gradients": None, "trained_parts": {"kind": "all"}}
DEFAULTS = {
    "epochs": 100,
    "batch_size": 128,
    "samples_per_class": None,
    "frozen_batchnorm": False,
    "loss_lr": None,
    **PLAIN,
    "augmentation": {"kind": "none"},
    "schedule": {"kind": "constant"},
}
BASE = {
    "backbone": "resnet18",
    "initializer": "imagenet",
    "head": {"kind": "linear", "embedding_dim": 64},
    "loss": {"kind": "epshn", "temperature": 0.2},
    "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.9},
}


def resolved(**entries):
    return resolve({"base": BASE, **entries}, DEFAULTS, prefix=("experiments",))


def mistake(**entry):
    """The RecipeError of an experiment called "bad"."""
    with pytest.raises(RecipeError) as caught:
        resolved(bad={"like": "base", **entry})
    return caught.value


# Inheritance.


def test_like_inherits_through_generations():
    """Would catch a grandparent's key lost, or a parent changed by its child."""
    recipe = resolved(
        grandchild={"like": "child", "epochs": 3},
        child={"like": "base", "backbone": "resnet50", "epochs": 2},
    )
    assert recipe["base"]["backbone"] == "resnet18"
    assert recipe["child"]["backbone"] == recipe["grandchild"]["backbone"] == "resnet50"
    assert [recipe[name]["epochs"] for name in ("base", "child", "grandchild")] == [100, 2, 3]
    assert recipe["grandchild"]["loss"] == recipe["base"]["loss"]
    assert list(recipe) == ["base", "grandchild", "child"]
    assert "like" not in recipe["child"]


def test_defaults_fill_what_nobody_says():
    """Would catch a recipe that is not complete, whose meaning follows the code's defaults."""
    assert resolved()["base"] == {
        **DEFAULTS,
        "backbone": "resnet18",
        "initializer": "imagenet",
        "backbone_trains": True,
        "head": {"kind": "linear", "embedding_dim": 64},
        "loss": {**EPSHN, "temperature": 0.2},
        "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.9, "weight_decay": 0.0},
        "schedule": {"kind": "constant", "warmup": 0},
    }


def test_kind_replaces_the_whole_part():
    """Would catch a parent's momentum or temperature left in another kind of part."""
    recipe = resolved(child={"like": "base", "optimizer": {"kind": "sgd", "lr": 0.1}})["child"]
    assert recipe["optimizer"] == {"kind": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    recipe = resolved(child={"like": "base", "loss": {"kind": "proxy_nca"}})["child"]
    assert recipe["loss"] == {"kind": "proxy_nca", "softmax_scale": 1.0}


def test_part_without_kind_is_merged():
    """Would catch a change of the learning rate that resets the momentum."""
    recipe = resolved(child={"like": "base", "optimizer": {"lr": 0.1}})["child"]
    assert recipe["optimizer"] == {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0}


def test_resolving_changes_nothing():
    """Would catch entries that are edited in place, so that a second reading differs."""
    entries = {"base": copy.deepcopy(BASE), "child": {"like": "base", "optimizer": {"lr": 0.1}}}
    before = copy.deepcopy(entries)
    first = resolve(entries, DEFAULTS, {"sgd": 2})
    assert entries == before
    assert resolve(entries, DEFAULTS, {"sgd": 2}) == first


@pytest.mark.parametrize("recipe", [{"sgd": 20}, {"sgd": 20, "adam": 3}])
def test_learning_rate_scale_is_applied_once(recipe):
    """Would catch a factor applied per generation, not to loss_lr, or to another optimizer."""
    entries = {
        "base": {**BASE, "loss_lr": 0.25},
        "child": {"like": "base"},
        "plain": BASE,
        "adam": {**BASE, "optimizer": {"kind": "adam", "lr": 0.5}, "loss_lr": 0.25},
    }
    found = resolve(entries, DEFAULTS, recipe)
    assert found["base"]["optimizer"]["lr"] == found["child"]["optimizer"]["lr"] == 10
    assert found["base"]["loss_lr"] == found["child"]["loss_lr"] == 5
    assert found["plain"]["loss_lr"] is None
    factor = recipe.get("adam", 1)
    assert found["adam"]["optimizer"]["lr"] == 0.5 * factor
    assert found["adam"]["loss_lr"] == 0.25 * factor


# Mistakes.


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"a": {"like": "b"}, "b": {"like": "a"}}, "a → b → a"),
        ({"a": {"like": "b"}, "b": {"like": "c"}, "c": {"like": "b"}}, "b → c → b"),
        ({"a": {"like": "a"}}, "a → a"),
        ({"a": {"like": "nobody"}}, "like 'nobody', which does not exist; known: base, a"),
    ],
)
def test_broken_inheritance_is_named(entries, words):
    """Would catch an endless recursion, or a KeyError without the experiment's name."""
    with pytest.raises(RecipeError, match=words) as caught:
        resolved(**entries)
    assert caught.value.keys == ("experiments", "a", "like")


@pytest.mark.parametrize(
    ("entry", "keys", "words"),
    [
        ({"loss": {"kind": "nope"}}, ("loss", "kind"), "unknown loss 'nope'; known: arcface"),
        ({"head": {"kind": "mlp"}}, ("head", "kind"), "unknown head 'mlp'"),
        ({"loss": {"margin": 1}}, ("loss", "margin"), "'epshn' has no such parameter; it has: d"),
        ({"head": {"kind": "none", "embedding_dim": 2}}, ("head", "embedding_dim"), "none"),
        ({"optimizer": {"lr": "1e-3"}}, ("optimizer", "lr"), "is '1e-3'; must be of type float"),
        ({"optimizer": {"lr": None}}, ("optimizer", "lr"), "is None; must be of type float"),
        ({"optimizer": {"lr": True}}, ("optimizer", "lr"), "is True; must be of type float"),
        ({"head": {"embedding_dim": 1.5}}, ("head", "embedding_dim"), "1.5; must be of type int"),
        ({"head": {"embedding_dim": True}}, ("head", "embedding_dim"), "must be of type int"),
        ({"loss": {"distance": "l3"}}, ("loss", "distance"), "must be one of 'cosine', 'euclid"),
        ({"samples_per_class": 3}, ("samples_per_class",), "does not divide batch_size 128"),
    ],
)
def test_mistakes_name_experiment_and_key(entry, keys, words):
    """Would catch a mistake that is only found when a GPU has started, or that names no place."""
    error = mistake(**entry)
    assert error.keys == ("experiments", "bad", *keys)
    assert words in str(error)


@pytest.mark.parametrize("key", ["head", "loss", "optimizer", "backbone", "initializer"])
def test_missing_parts_are_named(key):
    """Would catch an experiment that is like none and forgets a part."""
    entry = {name: value for name, value in BASE.items() if name != key}
    with pytest.raises(RecipeError, match=f"has no {key}") as caught:
        resolved(lonely=entry)
    assert caught.value.keys == ("experiments", "lonely")


def test_numbers_may_be_written_as_integers():
    """Would catch `lr: 1` refused because it is not 1.0."""
    assert resolved(child={"like": "base", "optimizer": {"lr": 1}})["child"]["optimizer"]["lr"] == 1


# One spelling.


def test_canonical_json_has_one_spelling():
    """Would catch a training repeated because keys stand in another order or 1 became 1.0."""
    one = {"b": [1, 2.0, {"y": None, "x": 0.5}], "a": 1.0, "c": (True, "é")}
    other = {"c": [True, "é"], "a": 1, "b": [1.0, 2, {"x": 0.5, "y": None}]}
    assert canonical_json(one) == canonical_json(other)
    assert canonical_json(one) == '{"a":1,"b":[1,2,{"x":0.5,"y":null}],"c":[true,"é"]}'


@pytest.mark.parametrize(
    ("one", "other"),
    [({"a": 1}, {"a": True}), ({"a": 1}, {"a": "1"}), ([1, 2], [2, 1]), ({"a": 0.1}, {"a": 0.2})],
)
def test_canonical_json_keeps_differences(one, other):
    """Would catch two recipes that share a name for what is not the same."""
    assert canonical_json(one) != canonical_json(other)


def test_canonical_json_refuses_nan():
    """Would catch a recipe that other programs cannot read as JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


# The published study.

EPSHN = {
    "kind": "epshn",
    "distance": "cosine",
    "temperature": 0.1,
    "implementation": "fixed_shape",
}
LINEAR = {"kind": "linear", "embedding_dim": 128}
ARCFACE = {"kind": "arcface", "margin": 28.6, "scale": 64}
SGD = {"kind": "sgd", "lr": 0.001, "momentum": 0, "weight_decay": 0}
SGD_01 = {**SGD, "lr": 0.01}
ADAM = {"kind": "adam", "lr": 0.001, "weight_decay": 0}
COMMON = {
    "backbone": "resnet18",
    "initializer": "imagenet",
    "frozen_batchnorm": False,
    "backbone_trains": True,
    "head": LINEAR,
    "loss": EPSHN,
    "augmentation": {"kind": "crop_flip"},
    "optimizer": SGD,
    "schedule": {"kind": "constant", "warmup": 0},
    "loss_lr": None,
    **PLAIN,
    "epochs": 100,
    "batch_size": 128,
    "samples_per_class": None,
    "image_size": 224,
    "eval_every": 1,
}
NO_AUGMENTATION = {"augmentation": {"kind": "none"}}
STUDY = {
    "EPSHN_euclidean_resnet18": {
        **NO_AUGMENTATION,
        "loss": {**EPSHN, "distance": "euclidean"},
        "optimizer": ADAM,
    },
    "EPSHN_cosine_resnet18": {**NO_AUGMENTATION, "optimizer": ADAM},
    "EPSHN_cosine_resnet18_sgd": NO_AUGMENTATION,
    "EPSHN_cosine_resnet18_sgd_aug": {},
    "EPSHN_cosine_frozenBN_resnet18_sgd_aug": {"frozen_batchnorm": True},
    "EPSHN_cosine_resnet18_scratch_sgd_aug": {"initializer": "scratch", "optimizer": SGD_01},
    "EPSHN_cosine_resnet18_classifier_sgd_aug": {"initializer": "classifier", "optimizer": SGD_01},
    "EPSHN_cosine_resnet18x512_sgd_aug": {"head": {**LINEAR, "embedding_dim": 512}},
    "EPSHN_cosine_resnet18+skipConnHead_sgd_aug": {
        "head": {"kind": "skip_connection", "embedding_dim": 128, "dropout": 0.1}
    },
    "EPSHN_cosine_resnet18+1dBN_sgd_aug": {"head": {"kind": "batchnorm", "embedding_dim": 128}},
    "EPSHN_cosine_resnet50_sgd_aug": {"backbone": "resnet50"},
    "ProxyNCA_cosine_resnet18_sgd_aug": {"loss": {"kind": "proxy_nca", "softmax_scale": 1}},
    "ArcFace_cosine_resnet18_sgd_aug": {"loss": ARCFACE},
    "SubCenterArcFace_cosine_resnet18_sgd_aug": {
        "loss": {**ARCFACE, "kind": "subcenter_arcface", "sub_centers": 3}
    },
    "EPSHN_cosine_simclr_resnet18_sgd_aug": {"initializer": "simclr"},
    "crossentropy_resnet18_sgd_aug": {
        "head": {"kind": "none"},
        "loss": {"kind": "crossentropy", "label_smoothing": 0},
        "optimizer": SGD_01,
    },
}


def published(**changes):
    """The published configuration, validated, with changes of its top-level keys."""
    config = {**read_yaml(FILES[0]), **read_yaml(FILES[1])}
    config = copy.deepcopy({**config, **changes})
    configuration.validate(config, FILES)
    return config


def test_the_sixteen_experiments():
    """Would catch an experiment that is missing, renamed, or not what the study says that it is."""
    planned = plan(published())
    names = [name for name in planned.experiments if name not in planned.untrained]
    assert names == list(STUDY)
    for name, differences in STUDY.items():
        assert planned.experiments[name] == {**COMMON, **differences}, name


def test_untrained_rows_come_last():
    """Would catch the untrained features trained, or left out of the comparison."""
    planned = plan(published())
    assert planned.untrained == ["imagenet_resnet18", "imagenet_resnet50"]
    assert list(planned.experiments)[-2:] == planned.untrained
    for name in planned.untrained:
        recipe = planned.experiments[name]
        assert (recipe["epochs"], recipe["head"]) == (0, {"kind": "none"})
        assert recipe["initializer"] == "imagenet"
        assert name == f"imagenet_{recipe['backbone']}"


def test_protocol_of_the_published_study():
    """Would catch another split, seed, image size or number of unseen classes than published."""
    config = published()
    expected = {
        "image_size": 224,
        "resize_margin": 1.1,
        "test_share": 0.2,
        "split": "stratified",
        "split_seed": 42,
        "unseen_classes": 20,
        "seeds": [42],
    }
    assert {key: config["protocol"][key] for key in expected} == expected
    assert config["dataset"]["classes"] == 200
    assert config["learning_rate_scale"] == {}
    assert config["substitute_initializers"] == {}
    planned = plan(config)
    assert planned.class_sets == {"all_classes": {"unseen": 0}, "limited_classes": {"unseen": 20}}
    augmented, plain = (planned.experiments[name] for name in list(STUDY)[3:1:-1])
    assert planned.resizes(augmented) == ("shorter246", "shorter224")
    assert planned.resizes(plain) == ("squash224", "squash224")
    assert config["baseline"] == "EPSHN_cosine_resnet18_sgd_aug"


def test_initializers_of_the_published_study():
    """Would catch a SimCLR that starts from ImageNet, or a classifier with the wrong rate."""
    initializers = plan(published()).initializers
    classifier, simclr = (initializers[name]["recipe"] for name in ("classifier", "simclr"))
    assert classifier == {
        **COMMON,
        # That of the run.
        "backbone": None,
        "head": {"kind": "none"},
        "loss": {"kind": "crossentropy", "label_smoothing": 0},
        "optimizer": SGD_01,
    }
    assert simclr["initializer"] == "scratch"
    assert simclr["head"]["kind"] == "simclr_projection"
    assert simclr["loss"]["kind"] == simclr["augmentation"]["kind"] == "simclr"
    assert simclr["epochs"] >= 100
    assert {initializers[name]["kind"] for name in ("classifier", "simclr")} == {"trained"}
    assert {initializers[name]["dataset"] for name in ("classifier", "simclr")} == {"study"}
    assert initializers["imagenet"]["kind"] == "published"
    assert initializers["scratch"]["kind"] == "scratch"


def test_recipe_of_a_training_holds_what_it_uses():
    """Would catch a label or a name in a recipe: a change of it would retrain everything."""
    planned = plan(published())
    recipe = planned.run_recipe("ArcFace_cosine_resnet18_sgd_aug", 7).as_dict()
    protocol = planned.config["protocol"]
    absent = {"initializer", "backbone_trains", *PLAIN}
    expected = {key: value for key, value in COMMON.items() if key not in absent}
    for key in ("image_size", "precision", "compute_threads", "eval_every"):
        expected[key] = protocol[key]
    assert recipe == {**expected, "loss": ARCFACE, "device": "auto", "seed": 7}
    initializer = planned.initializer_recipe("classifier", "resnet50", 7).as_dict()
    assert (initializer["backbone"], initializer["seed"]) == ("resnet50", 7)
    assert initializer.keys() == recipe.keys() - {"eval_every"}


@pytest.mark.parametrize(("key", "value"), [("cuda_graphs", False)])
def test_trainings_say_what_is_not_the_default_and_the_others_stay_as_they_were(key, value):
    """Would catch an option that nobody reads, or one whose arrival trains everything again."""
    planned = plan(config_with(("protocol", key), value))
    plain = plan(published())

    def all_recipes(of):
        yield from (of.run_recipe(name, 7).as_dict() for name in of.experiments)
        yield of.initializer_recipe("classifier", "resnet18", 7).as_dict()

    for recipe, without in zip(all_recipes(planned), all_recipes(plain), strict=True):
        assert recipe == {**without, key: value}
        assert key not in without


def config_with(path, value):
    """The published configuration with one value changed, by its path of keys."""
    config = published()
    inner = config
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return config


def weights_file(source, sha256=None, revision=None):
    """An initializer's file of weights, as a validated configuration has it."""
    return {"source": source, "sha256": sha256, "revision": revision}


@pytest.mark.parametrize(
    ("path", "value", "keys", "words"),
    [
        (("only",), ["nobody"], ("only",), "'nobody' is no experiment"),
        (("baseline",), "nobody", ("baseline",), "'nobody' is no experiment"),
        (("protocol", "unseen_classes"), 200, None, "is 200, but the data set has 200 classes"),
        (("dataset", "format"), "voc", None, "unknown format 'voc'; known: aircraft, cars196"),
        (("dataset", "source"), None, ("dataset",), "exactly one of source:, files: and"),
        (
            ("dataset", "source"),
            "ftp://host/a.tgz",
            None,
            "'ftp://host/a.tgz' is neither an address",
        ),
        (("dataset", "source"), "file://host/a.tgz", None, "refers to another machine"),
        (("dataset", "source"), ["https://a/b.tgz", "/c.tgz"], None, "'/c.tgz' is not an address"),
        (("dataset", "csv"), "photos.csv", None, "format cub reads no CSV file"),
        (
            ("initializers", "imagenet", "weights"),
            {"resnet18": weights_file(["weights.pth"])},
            ("initializers", "imagenet", "weights", "resnet18"),
            "'weights.pth' is not an address",
        ),
        (
            ("experiments", "EPSHN_cosine_resnet18", "initializer"),
            "nobody",
            None,
            "unknown initializer 'nobody'; known: scratch, imagenet",
        ),
        (
            ("initializers", "classifier", "recipe", "initializer"),
            "classifier",
            ("initializers", "classifier", "initializer"),
            "in a circle",
        ),
        (
            ("initializers", "simclr", "recipe", "initializer"),
            "nobody",
            None,
            "unknown initializer 'nobody'",
        ),
        (("initializers", "simclr", "dataset"), "nobody", None, "unknown data set 'nobody'"),
        (("initializers", "simclr", "recipe", "loss"), {"kind": "x"}, None, "unknown loss 'x'"),
    ],
)
def test_what_does_not_fit_together_is_named(path, value, keys, words):
    """Would catch a study that starts and only then finds that it cannot be."""
    with pytest.raises(RecipeError) as caught:
        plan(config_with(path, value))
    assert words in str(caught.value)
    expected = path if keys is None else keys
    assert caught.value.keys[: len(expected)] == expected


def test_substituted_initializers():
    """Would catch a demo that asks for ImageNet, in an experiment, a row or an initializer."""
    config = config_with(("substitute_initializers",), {"imagenet": "scratch"})
    planned = plan(config)
    used = {recipe["initializer"] for recipe in planned.experiments.values()}
    assert used == {"scratch", "classifier", "simclr"}
    assert planned.initializers["classifier"]["recipe"]["initializer"] == "scratch"
    assert planned.untrained == ["scratch_resnet18", "scratch_resnet50"]


# Configuration files.


def written(folder, **files):
    paths = []
    for name, text in files.items():
        paths.append(str(folder / f"{name}.yaml"))
        Path(paths[-1]).write_text(text, encoding="utf-8")
    return paths


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: 2\na: 3\n", r"config\.yaml:3: key 'a'"),
        ("a:\n  x: 1\n  # comment\n  x: 1\n", r"config\.yaml:4: key 'x'"),
        ("a: {b: 1, b: 2}\n", r"config\.yaml:1: key 'b'"),
        ("a: [1\n", r"config\.yaml: not valid YAML(.|\n)*line 2"),
        ("? [a]\n: 1\n", r"config\.yaml: not valid YAML(.|\n)*unhashable"),
    ],
)
def test_broken_yaml_is_named_with_its_line(tmp_path, text, place):
    """Would catch an experiment that stands there twice, of which the first is silently lost."""
    (path,) = written(tmp_path, config=text)
    with pytest.raises(StudyError, match=place):
        read_yaml(path)


def test_yaml_that_is_fine_is_read(tmp_path):
    """Would catch a strict loader that refuses merges, or keys that repeat in different places."""
    text = "a: &one {x: 1, y: 2}\nb:\n  <<: *one\n  x: 3\nc: [{x: 1}, {x: 1}]\n"
    (path,) = written(tmp_path, config=text)
    found = read_yaml(path)
    assert found == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
    assert read_yaml(written(tmp_path, empty="# nothing\n")[0]) == {}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (
            ("protocol", "epoch"),
            5,
            r"mine\.yaml: protocol\.epoch: unknown key; known here: .*epochs",
        ),
        (("protocol", "epochs"), "many", r"mine\.yaml: protocol\.epochs: is 'many'; .*integer"),
        (("protocol", "split"), "odd", r"mine\.yaml: protocol\.split: is 'odd'; must be one of"),
        (
            ("protocol", "test_share"),
            1.5,
            r"mine\.yaml: protocol\.test_share: is 1\.5; must be < 1",
        ),
        (("dataset", "md5"), "xyz", r"mine\.yaml: dataset\.md5: is 'xyz'"),
        (("experiments", "new"), {"looss": 1}, r"mine\.yaml: experiments\.new\.looss: unknown key"),
        (("experiments", "new"), {"epochs": -1}, r"mine\.yaml: experiments\.new\.epochs"),
        (
            ("experiments", "new"),
            {"loss": "epshn"},
            r"mine\.yaml: experiments\.new\.loss: .*mapping",
        ),
        (("experiments", "a/b"), {"like": "x"}, r"experiments\.a/b: a name has"),
    ],
)
def test_validation_names_file_and_key(tmp_path, path, value, words):
    """Would catch a mistake whose place a person has to look for in three files."""
    mine = value
    for key in reversed(path):
        mine = {key: mine}
    files = [*FILES, *written(tmp_path, mine=yaml.safe_dump(mine))]
    with pytest.raises(StudyError, match=words):
        configuration.validate(config_with(path, value), files)


def test_missing_key_is_named():
    """Would catch a KeyError in the middle of planning."""
    config = published()
    del config["dataset"]["name"]
    with pytest.raises(StudyError, match=r"dataset\.name: is missing"):
        configuration.validate(config, FILES)


def test_all_mistakes_are_told_at_once():
    """Would catch a person who mends one mistake at a time, and waits for each."""
    config = config_with(("protocol", "epochs"), "many")
    config["protocol"]["batch_size"] = 0
    with pytest.raises(StudyError) as caught:
        configuration.validate(config, FILES)
    assert len(str(caught.value).splitlines()) == 2


def test_place_is_the_last_file_that_says_it(tmp_path):
    """Would catch a message that points to a file whose value is overridden."""
    files = written(tmp_path, first="a: {b: 1, c: 2}\n", second="a: {b: 3}\n")
    assert place(("a", "b"), files) == f"{files[1]}: a.b"
    assert place(("a", "c"), files) == f"{files[0]}: a.c"
    assert place(("z",), files) == "z"


def test_defaults_are_filled_in():
    """Would catch a key that is missing where the schema states its default."""
    config = published()
    assert config["protocol"]["eval_every"] == 1
    assert config["untrained"]["initializer"] == "imagenet"
    assert config["initializers"]["simclr"]["seed"] is None
    other = published()
    other["protocol"]["seeds"].append(1)
    assert published()["protocol"]["seeds"] == [42], "a default must not be shared"


# Digests of code.


def forget():
    """What was read of the files before they changed."""
    for name in ("_file_of", "_tree", "_facts", "parameters"):
        getattr(source_code, name).cache_clear()


class Copy:
    """A copy of the programs and the library that a test may edit."""

    def __init__(self, folder):
        self.folder = folder

    def digest(self, *pieces, program="train.py", templates=()):
        forget()
        return source_code.code_digest(program, *pieces, templates=templates)

    def edit(self, name, old, new):
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture
def code(tmp_path, monkeypatch):
    folder = tmp_path / "scripts"
    shutil.copytree(source_code.PROGRAMS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(source_code, "PROGRAMS", folder)
    yield Copy(folder)
    forget()


def test_what_was_read_of_the_source_is_remembered_by_content(code, tmp_path, monkeypatch):
    """Would catch digests that depend on a memory, or a memory that is used for changed code."""
    parsed = []
    whole = source_code._describe

    def described(node, skipped):
        parsed.extend([1] if isinstance(node, ast.Module) else [])
        return whole(node, skipped)

    monkeypatch.setattr(source_code, "_describe", described)
    saves = []
    monkeypatch.setattr(source_code.atexit, "register", saves.append)
    memory = tmp_path / "memory" / "source_code.json"

    def start():
        """A new process: its digest, and how many modules it parsed."""
        for found in (source_code._remembered, source_code._new, parsed, saves):
            found.clear()
        source_code.remember_in(memory)
        digest = code.digest(EPSHN_PIECE)
        saves[0]()
        return digest, len(parsed)

    first, modules = start()
    assert modules > 10
    assert start() == (first, 0)
    code.edit("dmlstudy/compute/losses/epshn.py", "return ", "return +")
    changed, modules = start()
    assert (changed != first, modules) == (True, 1)
    memory.write_text('{"another version": ')
    assert start()[0] == changed


EPSHN_PIECE, ARCFACE_PIECE = ("loss", "epshn"), ("loss", "arcface")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dmlstudy/evaluate/search.py", '"""Nearest', '"""Approximately the nearest'),
        (
            "dmlstudy/evaluate/search.py",
            "    # Imported here",
            "    # Another comment. Imported here",
        ),
        (
            "dmlstudy/evaluate/search.py",
            "TIE_MARGIN = 1e-6",
            "TIE_MARGIN = (\n    0.000001\n)  # near",
        ),
        ("dmlstudy/compute/losses/epshn.py", '    """The library', '    """A library'),
        ("dmlstudy/compute/losses/epshn.py", "    def forward", "\n\n\n    def forward"),
        ("dmlstudy/compute/losses/epshn.py", '"cosine": Cos', "'cosine': Cos"),
        ("train.py", "import os\n", "# Nothing new.\nimport os\n"),
        (
            "dmlstudy/core/registry.py",
            '"loss": {',
            '"loss": {"new": "dmlstudy.compute.losses.new",',
        ),
    ],
)
def test_digest_ignores_what_cannot_change_a_number(code, name, old, new):
    """Would catch 32 models trained again because of a comment."""
    before = code.digest(EPSHN_PIECE)
    code.edit(name, old, new)
    assert code.digest(EPSHN_PIECE) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("dmlstudy/evaluate/search.py", "TIE_MARGIN = 1e-6", "TIE_MARGIN = 1e-5"),
        ("dmlstudy/compute/batches.py", "0.485", "0.484"),
        (
            "dmlstudy/compute/losses/epshn.py",
            "] = 0.1",
            "] = 0.2",
        ),
        (
            "dmlstudy/compute/losses/epshn.py",
            "BatchEasyHardMiner.SEMIHARD",
            "BatchEasyHardMiner.HARD",
        ),
        ("dmlstudy/train/run_job.py", "preprocessing.mean", "preprocessing.std"),
        # A module that only a function imports, and what that one imports.
        (
            "dmlstudy/compute/losses/epshn.py",
            "    def forward",
            "    from dmlstudy.pages import rendering\n    def f",
        ),
    ],
)
def test_digest_follows_what_can_change_a_number(code, name, old, new):
    """Would catch results of old code beside results of new code."""
    before = code.digest(EPSHN_PIECE)
    code.edit(name, old, new)
    assert code.digest(EPSHN_PIECE) != before


def test_digest_follows_imports_inside_functions(code):
    """Would catch an import that is put off, and with it the code that it brings, forgotten."""
    code.edit(
        "dmlstudy/compute/losses/epshn.py",
        "    return IMPL",
        "    import dmlstudy.new\n    return IMPL",
    )
    (code.folder / "dmlstudy" / "new.py").write_text("from dmlstudy import newer\n")
    (code.folder / "dmlstudy" / "newer.py").write_text("VALUE = 1\n")
    before, other = code.digest(EPSHN_PIECE), code.digest(ARCFACE_PIECE)
    (code.folder / "dmlstudy" / "newer.py").write_text("VALUE = 2\n")
    assert code.digest(EPSHN_PIECE) != before
    assert code.digest(ARCFACE_PIECE) == other


def test_digest_ignores_other_losses(code):
    """Would catch a change of ArcFace that trains EPSHN again, or one that nobody notices."""
    before = {piece: code.digest(piece) for piece in (EPSHN_PIECE, ARCFACE_PIECE)}
    assert len(set(before.values())) == 2
    code.edit("dmlstudy/compute/losses/arcface.py", "28.6", "28.5")
    assert code.digest(EPSHN_PIECE) == before[EPSHN_PIECE]
    assert code.digest(ARCFACE_PIECE) != before[ARCFACE_PIECE]


def test_digest_follows_the_family_of_a_backbone_only(code):
    """Would catch a mended family that retrains the published ResNets, or one that retrains nothing."""
    families = [("backbone", kind) for kind in ("resnet18", "resnet50", "torchvision", "timm")]
    before = {family: code.digest(family) for family in families}
    for changed in ("torchvision", "timm"):
        code.edit(
            f"dmlstudy/compute/backbones/{changed}_models.py", "def build(", "X = 1\n\n\ndef build("
        )
        after = {family: code.digest(family) for family in families}
        differing = [kind for (piece, kind), found in after.items() if found != before[piece, kind]]
        assert differing == [changed]
        before = after


def test_digest_ignores_modules_that_a_program_does_not_use(code):
    """Would catch a change of a page that trains everything again."""
    training, evaluation = code.digest(EPSHN_PIECE), code.digest(program="evaluate.py")
    code.edit("dmlstudy/evaluate/evaluation.py", "zero_division=0", "zero_division=1")
    assert code.digest(EPSHN_PIECE) == training
    assert code.digest(program="evaluate.py") != evaluation


def test_digest_of_templates_follows_every_byte(code):
    """Would catch a page that keeps its old look."""
    name = "base.html.j2"
    without = code.digest(program="report.py")
    before = code.digest(program="report.py", templates=[name])
    assert before != without
    with open(code.folder / source_code.TEMPLATES / name, "a", encoding="utf-8") as stream:
        stream.write(" ")
    assert code.digest(program="report.py", templates=[name]) != before


def test_digest_of_templates_follows_what_they_include(code):
    """Would catch an edit of a style sheet, script or section that leaves old pages as they are."""
    pattern = "report*.html.j2"
    rule = (ROOT / "workflow/rules/reporting.smk").read_text(encoding="utf-8")
    assert f'templates=["{pattern}"]' in rule
    before = code.digest(program="report.py", templates=[pattern])
    for name in ("page.css", "map.js", "macros.html.j2", "report_classes.html.j2"):
        path = code.folder / source_code.TEMPLATES / name
        path.write_text(path.read_text(encoding="utf-8") + " ", encoding="utf-8")
        after = code.digest(program="report.py", templates=[pattern])
        assert after != before, name
        before = after


def test_digest_of_a_report_follows_its_sections(code):
    """Would catch an edit of a section that leaves old pages as they are."""
    before = code.digest(program="report.py")
    code.edit("dmlstudy/pages/sections/runs.py", '"scalars"', '"numbers"')
    assert code.digest(program="report.py") != before


def test_every_piece_tells_its_parameters():
    """Would catch a piece whose parameters cannot be checked before it is imported."""
    for piece in recipes.PIECES:
        for kind in source_code.registry.kinds(piece):
            for name, one in parameters(piece, kind).items():
                assert one.mistake(one.default) is None, (piece, kind, name)
                assert one.meaning, (piece, kind, name)


# Sources.

CUB_MD5 = "md5:97eceeb196236b17998738112f37df78"


@pytest.mark.parametrize(
    ("source", "expected", "path"),
    [
        ("https://host/a.tgz", ["https://host/a.tgz"], None),
        (["http://host/a", "HTTPS://host/b"], ["http://host/a", "HTTPS://host/b"], None),
        ("/data/a b.tgz", [], "/data/a b.tgz"),
        ("photos", [], "photos"),
        ("file:photos", [], "photos"),
        ("file:/data/a.tgz", [], "/data/a.tgz"),
        ("file:///data/a%20b.tgz", [], "/data/a b.tgz"),
        ("~/photos", [], str(Path.home() / "photos")),
        (None, [], None),
    ],
)
def test_addresses_and_local_paths(source, expected, path):
    """Would catch an address taken for a path, or the other way round."""
    assert addresses.mistake(source) is None
    assert addresses.addresses(source) == expected
    assert addresses.local_path(source) == (None if path is None else Path(path))


def test_results_follow_the_archive_and_not_where_it_is_fetched(tmp_path):
    """Would catch results called foreign because of a mirror, or kept although the archive is another."""
    planned = {
        name: identity.identity(plan(config_with(("dataset", "source"), source)))
        for name, source in {
            "one": "https://one/a.tgz",
            "two": ["https://two/a.tgz", "https://one/a.tgz"],
            "local": "/data/a.tgz",
            "folder": str(tmp_path),
        }.items()
    }
    assert planned["one"] == planned["two"] == planned["local"]
    assert planned["one"]["source"] == CUB_MD5
    # A folder has no checksum: the archive's says nothing about it.
    assert planned["folder"]["source"] == str(tmp_path)
    other = config_with(("dataset", "md5"), "0" * 32)
    assert identity.identity(plan(other))["source"] == f"md5:{'0' * 32}"
    unknown = config_with(("dataset", "md5"), None)
    unknown["dataset"]["source"] = ["https://two/a.tgz", "https://one/a.tgz"]
    assert identity.identity(plan(unknown))["source"] == "https://two/a.tgz"


def test_local_files_that_are_not_there_are_named(tmp_path):
    """Would catch a job that fails after an hour because a stick is not plugged in."""
    missing = str(tmp_path / "missing")
    with pytest.raises(RecipeError, match="missing: no such file") as caught:
        identity.check_local_files(plan(config_with(("dataset", "source"), missing)))
    assert caught.value.keys == ("dataset", "source")
    weights = config_with(
        ("initializers", "imagenet", "weights"), {"resnet18": weights_file(missing)}
    )
    with pytest.raises(RecipeError, match="missing: no such file") as caught:
        identity.check_local_files(plan(weights))
    assert caught.value.keys == ("initializers", "imagenet", "weights", "resnet18")


def test_options_of_programs():
    """Would catch a key of the configuration that never reaches the program."""
    config = config_with(("dataset", "sha256"), "0" * 64)
    planned = plan(config)
    dataset = planned.datasets[planned.name]
    assert arguments.verification(dataset) == [
        "--bytes",
        "1150585339",
        "--checksum",
        CUB_MD5,
        f"sha256:{'0' * 64}",
    ]
    assert arguments.verification({**dataset, "md5": None, "sha256": None, "bytes": None}) == []
    options = arguments.listing({**dataset, "format": "csv", "csv": "a b.csv"})
    assert options == [
        *("--classes", "200", "--csv", "a b.csv", "--format", "csv"),
        *("--max-pixels", "100000000"),
    ]
    protocol = {**config["protocol"], "split": "official"}
    assert arguments.splitting(protocol)[:2] == ["--method", "official"]
    assert arguments.splitting(protocol, own=False) == [
        *("--method", "stratified", "--seed", "42"),
        *("--test-share", "0.2"),
    ]
    for option_of in (arguments.weights_place, arguments.weights_check):
        assert option_of(None) == option_of(weights_file(None)) == []
    assert arguments.weights_place(weights_file(["https://a/b"])) == ["--url", "https://a/b"]
    assert arguments.weights_place(weights_file("file:///a%20b")) == ["--local", "/a b"]
    known = weights_file("a.pth", sha256="0" * 64, revision="1" * 40)
    assert arguments.weights_check(known) == ["--revision", "1" * 40, "--sha256", "0" * 64]


def test_packs_of_a_data_set():
    """Would catch images checked for one size and packed in another."""
    planned = plan(config_with(("protocol", "image_size"), 224))
    assert planned.packs_of(planned.name) == ["shorter224", "shorter246", "squash224"]


def test_secrets_of_addresses_are_recorded_nowhere():
    """Would catch a password or a signature in study.json, in a rule's params or at the tracker."""
    secret = config_with(("dataset", "md5"), None)
    secret["dataset"]["source"] = "https://me:word@host:8/a.tgz?key=hidden"
    planned = plan(secret)
    recorded = json.dumps([identity.identity(planned), identity.origin(planned, "cub200_2011")])
    assert "https://host:8/a.tgz?" in recorded
    for word in ("me:", "word", "hidden"):
        assert word not in recorded
    other = copy.deepcopy(secret)
    other["dataset"]["source"] = "https://me:word@host:8/a.tgz?key=other"
    assert identity.identity(plan(other)) != identity.identity(planned)
