"""What a configuration says of backbones and their weights is checked before any job."""

import json
import sys

import pytest
from test_recipes import ROOT, published, weights_file

from dmlstudy.core.files import StudyError
from dmlstudy.plan import backbones, configuration, identity
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.planning import plan
from dmlstudy.plan.recipes import RecipeError, pieces
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.wording import block, details, pretraining

BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
ORDINARY = set(published()["experiments"])
VIT, MOBILENET = "timm/test_vit.r160_in1k", "torchvision/mobilenet_v3_small"
FACTS = {
    VIT: {
        "interpolation": "bicubic",
        "batchnorm": False,
        "parts": {"blocks": 6, "normalisation": True, "lora": True},
        "unpublished": None,
        "feature_dim": 64,
    },
    MOBILENET: {
        "interpolation": "bilinear",
        "batchnorm": True,
        "parts": {"blocks": 0, "normalisation": False, "lora": False},
        "unpublished": None,
    },
    "timm/nobodys": {"interpolation": "bicubic", "batchnorm": True, "unpublished": "nobody has it"},
    "timm/test_vti": {"problem": "unknown backbone; similar names: timm/test_vit"},
}


class Known(Describer):
    """Answers as the program would, and notes what it is asked."""

    def __init__(self, **options):
        super().__init__(environment="tests", **options)
        self.asked = []

    def _ask(self, names, image_size):
        self.asked.append((names, image_size))
        return {name: FACTS[name] for name in names}


def planned(entries=None, **changes):
    """The published study with more experiments, and changes of its top-level keys."""
    config = published()
    config["experiments"] |= {
        name: {"like": BASELINE, **entry} for name, entry in (entries or {}).items()
    }
    return plan({**config, **changes}, Known())


def test_a_backbone_is_one_entry_of_the_configuration():
    """Would catch a network that needs code, files that two of them share, or a pack of the wrong filter."""
    start = {"initializer": "classifier"}
    study = planned(
        {"vit": {"backbone": VIT, **start}, "mobile": {"backbone": MOBILENET, **start}},
        untrained={
            "backbones": ["resnet18", VIT],
            "initializer": "imagenet",
            "other_initializers": {},
            "augmentation": {"kind": "crop_flip"},
        },
    )
    assert study.untrained == ["imagenet_resnet18", "imagenet_timm-test_vit.r160_in1k"]
    assert details(study, study.untrained[1]) == f"untrained: {VIT}, ImageNet"
    assert study.resizes(study.experiments["vit"]) == ("shorter246_bicubic", "shorter224_bicubic")
    assert study.resizes(study.experiments["mobile"]) == ("shorter246", "shorter224")
    assert study.packs_of(study.name) == [
        *("shorter224", "shorter224_bicubic", "shorter246", "shorter246_bicubic", "squash224"),
    ]
    files = Layout("r", study, by_digest=str)
    assert files.run_inputs("vit", "limited_classes", 42)["weights"] == (
        "r/initializers/classifier/limited_classes/seed42/timm-test_vit.r160_in1k.weights"
    )
    read = files.initializer_inputs("classifier", VIT, "limited_classes", 42)
    assert read["weights"] == "r/initializers/imagenet/timm-test_vit.r160_in1k.weights"
    assert read["train_pixels"].endswith("pack_shorter246_bicubic/pixels.bin")
    assert pieces(study.experiments["vit"])[0] == ("backbone", "timm")
    assert study.run_recipe("vit", 42).backbone == VIT


def test_only_new_backbones_are_asked_for_and_remembered(tmp_path):
    """Would catch seconds of torch at each start of Snakemake, or answers of another version."""
    config = published()
    describe = Known(memory=tmp_path / "memory.json")
    assert describe(["resnet18", "resnet50"], 224)["resnet18"]["interpolation"] == "bilinear"
    assert describe.asked == []
    names = ["resnet18", VIT, MOBILENET]
    found = describe(names, 224)
    assert list(found) == names
    assert found[VIT] == FACTS[VIT]
    assert describe.asked == [([VIT, MOBILENET], 224)]
    again = Known(memory=tmp_path / "memory.json")
    assert again(names, 224) == found
    assert again.asked == []
    # Another size, another version: asked again.
    again(names, 96)
    again.environment = "timm 2"
    again([VIT], 96)
    assert again.asked == [([VIT, MOBILENET], 96), ([VIT], 96)]
    (tmp_path / "memory.json").write_text("broken")
    assert Known(memory=tmp_path / "memory.json")(names, 224) == found
    # Nowhere to remember: asked each time.
    assert Known(memory="/proc/nowhere/memory.json")([VIT], 224) == {VIT: FACTS[VIT]}
    assert set(plan(config, Known()).backbones) == {"resnet18", "resnet50"}


def test_program_is_asked_in_one_go(tmp_path):
    """Would catch a program that is started for each name, or whose failure nobody sees."""
    script = tmp_path / "program.py"
    script.write_text(
        "import json, sys\n"
        "names = sys.argv[sys.argv.index('--backbones') + 1:]\n"
        "assert sys.argv[1:3] == ['--image-size', '96'], 'wrong size'\n"
        "print(json.dumps({name: {'problem': f'{len(names)} names'} for name in names}))\n"
    )
    describe = Describer(tmp_path / "m.json", [sys.executable, str(script)], "x")
    assert describe([VIT, MOBILENET], 96)[VIT] == {"problem": "2 names"}
    assert len(json.loads((tmp_path / "m.json").read_text())) == 2
    with pytest.raises(StudyError, match="wrong size"):
        describe([VIT], 64)
    assert "torch 2" in backbones.versions()
    assert "timm 1" in backbones.versions()


@pytest.mark.parametrize(
    ("entry", "key", "words"),
    [
        (
            {"backbone": "resnet34"},
            "backbone",
            ["unknown backbone 'resnet34'", "resnet18, resnet50"],
        ),
        ({"backbone": "tim/test_vit"}, "backbone", ["'tim/test_vit'", "timm"]),
        ({"backbone": "timm/test_vti"}, "backbone", ["similar names: timm/test_vit"]),
        (
            {"backbone": VIT, "frozen_batchnorm": True},
            "frozen_batchnorm",
            [f"{VIT} has no BatchNorm"],
        ),
        ({"backbone": "timm/nobodys"}, "initializer", ["is 'imagenet'", "nobody has it"]),
    ],
)
def test_backbone_that_cannot_be_is_named_before_any_job(entry, key, words):
    """Would catch a study that trains for a day and then finds that a name is wrong."""
    with pytest.raises(RecipeError) as caught:
        planned({"mine": entry})
    assert caught.value.keys == ("experiments", "mine", key)
    for word in words:
        assert word in str(caught.value)
    # With another start it can be trained.
    if key == "initializer":
        planned({"mine": {**entry, "initializer": "scratch"}})


def test_untrained_rows_name_their_backbones():
    """Would catch a mistake that is put down to an experiment."""
    untrained = {
        "backbones": ["timm/test_vti"],
        "initializer": "imagenet",
        "other_initializers": {},
    }
    with pytest.raises(RecipeError, match="similar names") as caught:
        planned(untrained={**untrained, "augmentation": {"kind": "crop_flip"}})
    assert caught.value.keys == ("untrained", "backbones")


def with_file(kind, weights):
    """The published study's initializers, and one more of a kind, from which an experiment starts."""
    more = {"kind": kind, "label": "ours", "weights": weights}
    template = {key: None for key in ("seed", "recipe")} | {"dataset": "study", "backbones": {}}
    return {**published()["initializers"], "ours": {**template, **more}}


@pytest.mark.parametrize(
    ("kind", "weights", "keys", "words"),
    [
        ("file", {}, (), f"names no file for {VIT}, which mine starts from"),
        ("file", {VIT: weights_file(None)}, (VIT, "source"), "is missing"),
        ("file", {VIT: weights_file("https://a/b")}, (VIT, "sha256"), "must be verified"),
        ("file", {VIT: weights_file("ftp://a/b")}, (VIT,), "neither an address"),
        ("file", {VIT: weights_file("a", revision="1" * 40)}, (VIT, "revision"), "only published"),
        ("file", {"vit": weights_file("a")}, ("vit",), "unknown backbone 'vit'"),
        ("scratch", {VIT: weights_file("a")}, (VIT,), "this one is scratch"),
        ("published", {VIT: weights_file("https://a/b")}, (VIT, "sha256"), "must be verified"),
        (
            "published",
            {MOBILENET: weights_file("a", sha256="0" * 64)},
            (MOBILENET, "sha256"),
            "torchvision states",
        ),
    ],
)
def test_weights_that_cannot_be_had_or_verified_are_named(kind, weights, keys, words):
    """Would catch a file of the network that nobody verifies, or one that nobody finds in the end."""
    with pytest.raises(RecipeError, match=words) as caught:
        planned(
            {"mine": {"backbone": VIT, "initializer": "ours"}},
            initializers=with_file(kind, weights),
        )
    assert caught.value.keys == ("initializers", "ours", "weights", *keys)


def test_weights_are_part_of_what_a_run_was():
    """Would catch two runs from different files that the tracker takes for one."""

    def start(content="", **file):
        study = planned(
            {"mine": {"backbone": VIT, "initializer": "ours"}},
            initializers=with_file("file", {VIT: weights_file(**file)}),
        )
        what = identity.tracked(study, "mine", 42, "all_classes", lambda *_: content)
        return what["start"]

    assert start("first", source="a.pth") == start("first", source="moved/a.pth")
    assert start("first", source="a.pth") != start("second", source="a.pth")
    known = start(source="a.pth", sha256="0" * 64)
    assert known == start(source=["https://host/a"], sha256="0" * 64)
    assert known != start(source="a.pth", sha256="1" * 64)


def test_a_path_alone_is_a_file_of_weights():
    """Would catch the one line that somebody's own network needs."""
    config = published()
    config["initializers"]["ours"] = {
        "kind": "file",
        "label": "ours",
        "weights": {
            VIT: "a.pth",
            "resnet18": ["https://a/b", "https://c/d"],
            MOBILENET: {"source": "c"},
        },
    }
    configuration.validate(config, [])
    found = config["initializers"]["ours"]["weights"]
    assert found[VIT] == weights_file("a.pth")
    assert found["resnet18"] == weights_file(["https://a/b", "https://c/d"])
    assert found[MOBILENET] == weights_file("c")
    config["initializers"]["ours"]["weights"] = {VIT: {"source": "a", "sha": "x"}}
    with pytest.raises(
        StudyError, match=r"weights\..*sha: unknown key; known here: revision, sha256"
    ):
        configuration.validate(config, [])


def test_untrained_rows_of_ones_own_are_not_published():
    """Would catch a backbone or weights of somebody's own among the rows of the published study."""
    kinds = {
        ("resnet18", "imagenet"): "published",
        (MOBILENET, "imagenet"): "own",
        ("resnet50", "scratch"): "own",
    }
    for (backbone, initializer), expected in kinds.items():
        untrained = published()["untrained"] | {
            "backbones": [backbone],
            "initializer": initializer,
        }
        study = planned(untrained=untrained)
        (name,) = study.untrained
        assert block(study, name) == expected, (backbone, initializer)


LAST, NORMS, LORA = ({"kind": kind} for kind in ("last_blocks", "normalisation", "lora"))


@pytest.mark.parametrize(
    ("entry", "where", "words"),
    [
        ({"backbone": VIT, "trained_parts": {**LAST, "blocks": 7}}, ("blocks",), "is 7, but .* has 6 blocks"),
        ({"trained_parts": {**LAST, "blocks": 5}}, ("blocks",), "is 5, but resnet18 has 4 blocks"),
        ({"backbone": MOBILENET, "trained_parts": LAST}, ("kind",), "not known which blocks"),
        ({"backbone": MOBILENET, "trained_parts": NORMS}, ("kind",), "has no normalisation layers"),
        ({"trained_parts": NORMS, "frozen_batchnorm": True}, ("kind",), "which frozen_batchnorm holds"),
        ({"trained_parts": LORA}, ("kind",), "resnet18 has no attention"),
        ({"trained_parts": {**LORA, "rank": 0}}, ("rank",), "is 0; must be >= 1"),
        ({"trained_parts": {**LAST, "rank": 1}}, ("rank",), "no such parameter; it has: blocks"),
        ({"trained_parts": {"kind": "bias"}}, ("kind",), "unknown trained_parts 'bias'"),
    ],
)  # fmt: skip
def test_parts_that_cannot_train_are_refused_before_any_job(entry, where, words):
    """Would catch a mistake that is found by the first training."""
    start = {"initializer": "classifier"}
    with pytest.raises(RecipeError, match=words) as caught:
        planned({"tuned": {**start, **entry}})
    assert caught.value.keys == ("experiments", "tuned", "trained_parts", *where)


def test_parts_that_exist_are_planned():
    """Would catch a check that refuses what can be trained, or a candidate that it does not see."""
    start = {"initializer": "imagenet", "backbone": VIT}
    study = planned(
        {
            "last": {**start, "trained_parts": {**LAST, "blocks": 6}},
            "norms": {**start, "trained_parts": NORMS, "backbone_lr": 0.001, "clip_gradients": 1},
            "lora": {**start, "trained_parts": {**LORA, "rank": 4}},
        }
    )
    recipe = study.run_recipe("norms", 1)
    assert (recipe.trained_parts, recipe.backbone_lr, recipe.clip_gradients) == (NORMS, 0.001, 1)
    found = study.run_recipe("lora", 1).trained_parts
    assert found == {**LORA, "rank": 4, "alpha": 16.0, "layers": "attention_and_mlp"}
    assert "trained parts lora rank 4" in details(study, "lora")
    selected = {**start, "trained_parts": LAST, "selection": {"trained_parts.blocks": [1, 9]}}
    with pytest.raises(RecipeError, match="is 9, but") as caught:
        planned({"chosen": selected})
    assert caught.value.keys[:3] == ("experiments", "chosen", "selection")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_parts_of_the_studys_own_networks_are_known(name):
    """Would catch facts that are not those of the networks."""
    from describe_backbone import described

    assert Describer()([name], 64)[name]["parts"] == described(name, 64)["parts"]


def test_recipes_for_fine_tuning_can_be_planned_and_change_nothing(sharing):
    """Would catch an entry whose backbone lacks what it trains, or a published recipe that changes."""
    config = published()
    added = read_yaml(ROOT / "config" / "fine_tuning.yaml")
    for key in ("initializers", "experiments"):
        config[key] |= added[key]
    configuration.validate(config, [])
    with sharing():
        study = plan(config, Describer())
    before = plan(published())
    assert all(study.run_recipe(n, 42) == before.run_recipe(n, 42) for n in before.experiments)
    trained = {
        name: study.run_recipe(name, 42).trained_parts["kind"] for name in added["experiments"]
    }
    assert list(trained.values()) == ["all", "last_blocks", "normalisation", "lora", "last_blocks"]
    for name in list(trained)[:4]:
        recipe = study.run_recipe(name, 42)
        assert recipe.optimizer["kind"] == "adamw"
        assert recipe.schedule["warmup"] == 5
        assert recipe.clip_gradients
        assert recipe.backbone_lr


KNOWN = {
    "label": "DINOv2",
    "license": "Apache-2.0",
    "data": "142 million images without labels",
    "test_images": "unknown",
    "remark": None,
    "source": "arXiv 2304.07193",
}


def test_foundation_models_have_a_block_and_their_facts():
    """Would catch a foundation model among rows of other pre-training, or facts beside random weights."""
    untrained = published()["untrained"] | {
        "backbones": ["resnet18", VIT, MOBILENET],
        "other_initializers": {MOBILENET: "scratch"},
    }
    study = planned(
        {"vit_head": {"backbone": VIT, "block": "foundation"}},
        untrained=untrained,
        pretraining={VIT: KNOWN, MOBILENET: KNOWN},
    )
    blocks = {name: block(study, name) for name in study.experiments if name not in ORDINARY}
    frozen = "imagenet_timm-test_vit.r160_in1k"
    assert blocks == {
        "vit_head": "foundation",
        "imagenet_resnet18": "published",
        frozen: "foundation",
        # What was said of published weights does not hold for random ones.
        "scratch_torchvision-mobilenet_v3_small": "own",
    }
    assert details(study, frozen) == f"untrained: {VIT}, DINOv2"
    rows = pretraining(study)
    assert [row["experiment"] for row in rows] == ["vit_head", frozen]
    assert rows[1] | KNOWN == rows[1]
    assert study.start_row("vit_head") == frozen


def test_facts_of_a_backbone_that_nobody_has_are_refused():
    """Would catch a wrong name, whose facts would stand nowhere."""
    with pytest.raises(RecipeError, match="similar names: timm/test_vit") as caught:
        planned(pretraining={"timm/test_vti": KNOWN})
    assert caught.value.keys == ("pretraining", "timm/test_vti")
    untrained = published()["untrained"] | {"other_initializers": {VIT: "scratch"}}
    with pytest.raises(RecipeError, match="has no row without training") as caught:
        planned(untrained=untrained)
    assert caught.value.keys == ("untrained", "other_initializers", VIT)
