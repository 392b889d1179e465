"""Image size as a key of an experiment and of an initializer's recipe."""

import copy

import pytest
from configurations import PROJECT, PUBLISHED, describe, refusal

from dmlstudy.plan import configuration
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.planning import plan
from dmlstudy.plan.projection import step_of
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.rule_memory import RuleMemory
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.wording import details

BASELINE = "EPSHN_cosine_resnet18_sgd_aug"
CLASSIFIER = "EPSHN_cosine_resnet18_classifier_sgd_aug"
LARGE, CHILD = "large", "child"


def study(describe=None, **entries):
    config = copy.deepcopy(PUBLISHED)
    config["experiments"] |= {
        LARGE: {"like": CLASSIFIER, "image_size": 448},
        CHILD: {"like": LARGE, "optimizer": {"lr": 0.002}},
        **entries,
    }
    config["only"] = [BASELINE, LARGE, CHILD, *entries]
    config["initializers"]["classifier"]["recipe"]["image_size"] = 96
    configuration.validate(config, [])
    return plan(config, describe)


def test_each_experiment_has_packs_of_its_own_size():
    """Would catch a run that reads the packs of another size, or a pack that nobody makes."""
    planned = study()
    packs = {name: planned.resizes(planned.experiments[name]) for name in (BASELINE, LARGE, CHILD)}
    assert packs == {
        BASELINE: ("shorter246", "shorter224"),
        LARGE: ("shorter493", "shorter448"),
        CHILD: ("shorter493", "shorter448"),
    }
    # The initializer's recipe has its own size too.
    own = {"shorter106", "shorter96"}
    assert set(planned.packs_of(planned.name)) == {*packs[BASELINE], *packs[LARGE], *own}
    files = Layout("results", planned, by_digest=str)
    assert files.run_inputs(LARGE, "all_classes", 42)["test_pixels"].endswith(
        "shorter448/pixels.bin"
    )
    start = files.initializer_inputs("classifier", "resnet18", "all_classes", 42)
    assert start["train_pixels"].endswith("pack_shorter106/pixels.bin")
    assert files.test_pack(BASELINE).endswith("pack_shorter224")


def test_recipes_words_and_estimates_follow_the_size():
    """Would catch a model that is trained at another size than its row says."""
    planned = study()
    recipes = {name: planned.run_recipe(name, 42) for name in (BASELINE, LARGE, CHILD)}
    assert [one.image_size for one in recipes.values()] == [224, 448, 448]
    assert planned.initializer_recipe("classifier", "resnet18", 42).image_size == 96
    assert details(planned, LARGE) == f"like {CLASSIFIER}: image size 448"
    assert step_of(recipes[BASELINE]) != step_of(recipes[LARGE])
    need = RuleMemory(planned, Layout("nowhere", planned, by_digest=str), on_gpu=False)
    assert need.run(LARGE) > 2 * need.run(BASELINE)
    assert need.explain(LARGE) > need.explain(BASELINE)


def test_backbones_are_asked_for_each_size_that_they_get():
    """Would catch a network that is refused, or measured, at a size that it never sees."""
    asked = []

    def noted(names, size):
        asked.append((sorted(names), size))
        return Describer()(names, size)

    planned = study(noted)
    assert asked == [(["resnet18", "resnet50"], 224), (["resnet18"], 448), (["resnet18"], 96)]
    kept = {pair: one["footprint"]["kept"] for pair, one in planned.facts.items()}
    assert kept["resnet18", 448] == 4 * kept["resnet18", 224]


def test_a_size_that_does_not_fit_is_told_where_it_stands(monkeypatch):
    """Would catch patches that fit the protocol's size, in an experiment with another one."""
    config = copy.deepcopy(PUBLISHED)
    config["experiments"] = {
        name: entry for name, entry in config["experiments"].items() if name in list(config["experiments"])[:4]
    } | {"vit": {"like": BASELINE, "backbone": "timm/vit", "image_size": 100}}  # fmt: skip
    import configurations

    def patches(names, size):
        found = describe(names, size)
        bad = {"timm/vit": {"problem": "patches do not fit"}} if size == 100 else {}
        return found | {name: one for name, one in bad.items() if name in names}

    monkeypatch.setattr(configurations, "describe", patches)
    assert refusal(config) == "experiments.vit.backbone: patches do not fit"
    config["experiments"]["vit"]["image_size"] = 8
    assert "experiments.vit.image_size: is 8; must be >= 16" in refusal(config)
    config["experiments"]["vit"]["image_size"] = 96
    assert refusal(config) is None


@pytest.mark.parametrize(("size", "why"), [(96, "image_size 224 (here 96)"), (224, "")])
def test_published_recipes_were_run_at_the_published_size(size, why):
    """Would catch a published figure that is compared with a run of other images."""
    config = copy.deepcopy(PUBLISHED)
    config["experiments"][BASELINE]["image_size"] = size
    # Entries that are like it inherit its size.
    config["only"] = [BASELINE, "EPSHN_cosine_resnet18_sgd"]
    configuration.validate(config, [])
    path = PROJECT / "config" / "published_recipes.yaml"
    found = reproduction(plan(config), read_yaml(path))
    assert found["obstacle"] == ""
    assert why in found["matches"][BASELINE]["why"]
    assert found["matches"][BASELINE]["experiment"] == (None if why else BASELINE)
    assert found["matches"]["EPSHN_cosine_resnet18_sgd"]["why"] == ""
