"""Selection: each experiment has the same budget, and no test image or unseen class is used."""

import copy
import json
import re

import numpy as np
import pandas as pd
import pytest
from helpers import TinyStudy, small_recipe
from snakemake.target_jobs import parse_target_jobs_cli_args
from snakemake_interface_executor_plugins.utils import TargetSpec, encode_target_jobs_cli_args
from test_recipes import DEFAULTS, FILES, ROOT, config_with, published
from test_training import changed

from dmlstudy.compute.batches import ImageBatches
from dmlstudy.compute.embedding import embed, normalised
from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.health import WARNING
from dmlstudy.evaluate.health_table import COLUMNS, WORSE_THAN_START
from dmlstudy.evaluate.held_out import hold_out
from dmlstudy.evaluate.selection import choose, tuning_rows
from dmlstudy.pages.comparison_page import BLOCKS, comparison_pages
from dmlstudy.pages.results.facts import facts as facts_of_study
from dmlstudy.pages.results.study import Study
from dmlstudy.plan import candidates, configuration, planning, recipes, wording
from dmlstudy.plan.candidates import candidate_name
from dmlstudy.plan.recipes import RecipeError
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.sources import read_yaml
from dmlstudy.train.candidate import harmonic_mean, try_recipe
from dmlstudy.train.trainer import Trainer

ARCFACE = "ArcFace_cosine_resnet18_sgd_aug"
TEMPLATE = "workflow/scripts/dmlstudy/pages/templates/index.html.j2"
SELECTION = {"optimizer.lr": [0.01, 0.1], "loss.scale": [16, 32, 64]}


# Planning.


def arcface(**entry):
    return {
        "backbone": "resnet18",
        "initializer": "imagenet",
        "head": {"kind": "linear", "embedding_dim": 64},
        "loss": {"kind": "arcface", "margin": 20},
        "optimizer": {"kind": "sgd", "lr": 0.5, "momentum": 0.9},
        **entry,
    }


def candidates_of(selection, scale=None, **entry):
    raw = arcface(**entry, selection=selection)
    return candidates.candidates(raw, DEFAULTS, scale or {}, ("experiments", "x"))


def test_candidates_are_all_combinations_in_order():
    """Would catch values paired instead of crossed, or an order that depends on the order of keys."""
    found = candidates_of(SELECTION)
    assert list(found) == [
        f"loss.scale={scale}+optimizer.lr={lr}" for scale in (16, 32, 64) for lr in (0.01, 0.1)
    ]
    assert list(candidates_of(dict(reversed(SELECTION.items())))) == list(found)
    plain = recipes.complete(arcface(), DEFAULTS, {}, ())
    for tried in found.values():
        scale, lr = tried["values"]["loss.scale"], tried["values"]["optimizer.lr"]
        assert tried["recipe"] == {
            **plain,
            "loss": {**plain["loss"], "scale": scale},
            "optimizer": {**plain["optimizer"], "lr": lr},
        }


def test_values_of_a_candidate_are_scaled_as_those_of_an_entry():
    """Would catch a demo whose candidates have other learning rates than its experiments."""
    found = candidates_of({"optimizer.lr": [0.5], "loss_lr": [0.25]}, {"sgd": 20})
    (tried,) = found.values()
    assert tried["values"] == {"loss_lr": 0.25, "optimizer.lr": 0.5}
    assert (tried["recipe"]["optimizer"]["lr"], tried["recipe"]["loss_lr"]) == (10, 5)


def test_name_of_a_candidate_is_that_of_its_values():
    """Would catch a candidate trained again because 1 became 1.0 or another value was added."""
    values = {"optimizer.lr": 1.0, "loss_lr": None, "frozen_batchnorm": True, "loss.distance": "l"}
    name = "frozen_batchnorm=true+loss.distance=l+loss_lr=null+optimizer.lr=1"
    assert candidate_name(values) == candidate_name({**values, "optimizer.lr": 1}) == name
    assert candidate_name({"a": 0.00001}) == "a=1e-05"


def test_name_of_a_candidate_reaches_other_machines():
    """Would catch a name that Snakemake splits when it submits a job to a cluster."""
    name = candidate_name({"loss.scale": 16, "optimizer.lr": 0.1})
    target = TargetSpec("try_candidate", {"experiment": "a+b", "candidate": name})
    assert parse_target_jobs_cli_args(encode_target_jobs_cli_args([target])) == [target]


@pytest.mark.parametrize(
    ("selection", "key", "words"),
    [
        ({"loss.scael": [1]}, "loss.scael", "'arcface' has no such parameter; it has: margin, sc"),
        ({"loss.temperature": [0.1]}, "loss.temperature", "'arcface' has no such parameter"),
        ({"loss.scale": [16, "32"]}, "loss.scale", "is '32'; must be of type float"),
        ({"loss.kind": ["arcface"]}, "loss.kind", "is no key that can be selected"),
        ({"loss": [{"kind": "arcface"}]}, "loss", "is no key that can be selected"),
        ({"epochs": [1, 2]}, "epochs", "is no key that can be selected"),
        ({"initializer": ["scratch"]}, "initializer", "those are: backbone_lr, batch_size"),
        ({"los.scale": [1]}, "los.scale", "is no key that can be selected"),
        ({"loss_lr.x": [1]}, "loss_lr.x", "is no key that can be selected"),
        ({"samples_per_class": [3]}, None, "samples_per_class=3: samples_per_class is 3, which"),
    ],
)
def test_mistakes_in_a_selection_name_the_key(selection, key, words):
    """Would catch a typo that leads to a selection among equal candidates."""
    with pytest.raises(RecipeError) as caught:
        candidates_of(selection)
    assert caught.value.keys == ("experiments", "x", "selection", key)[: 3 if key is None else 4]
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"loss.scale": []}, r"selection\.loss\.scale: is \[\]; must not be empty"),
        ({"loss.scale": 16}, r"selection\.loss\.scale: is 16; must be of type list"),
        ({"loss.scale": [16, 16.0]}, r"selection\.loss\.scale: lists 16 twice"),
        ({"loss_lr": [0]}, r"selection\.loss_lr: is 0; must be > 0"),
        ({"batch_size": [8.5]}, r"selection\.batch_size: is 8\.5; must be of type integer"),
        ({"loss.scale": [[16]]}, r"selection\.loss\.scale: is \[16\]; must be of type"),
        ({"loss.scale": ["../x"]}, r"selection\.loss\.scale: is '\.\./x'; must be"),
        (["loss.scale"], r"selection: is .*; must be of type mapping"),
    ],
)
def test_lists_are_checked_before_anything_else(selection, words):
    """Would catch an empty list, which gives no candidate, or a value that counts twice."""
    config = config_with(("experiments", ARCFACE, "selection"), selection)
    try:
        configuration.validate(config, FILES)
        planning.plan(config)
        message = "nothing"
    except RecipeError as error:
        message = f"{'.'.join(error.keys)}: {error}"
    except StudyError as error:
        message = str(error)
    assert re.search(rf"experiments\.{ARCFACE}\.{words}", message), message


def planned(changes=None, **protocol):
    """The published study with further keys for some experiments."""
    config = published()
    for name, change in (changes or {}).items():
        config["experiments"].setdefault(name, {}).update(copy.deepcopy(change))
    config["protocol"]["selection"].update(protocol)
    return planning.plan(config)


PROXY = "ProxyNCA_cosine_resnet18_sgd_aug"
SELECTION_OF_PROXY = {"optimizer.lr": [1, 2, 3], "loss.softmax_scale": [1, 9]}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"selection": {"optimizer.lr": [0.1, 0.2]}}, "has 2 candidates of 100 epochs, but 'Proxy"),
        ({"selection": SELECTION, "epochs": 99}, "has 6 candidates of 99 epochs, but 'ProxyNCA_"),
    ],
)
def test_unequal_budgets_are_refused(other, words):
    """Would catch a loss that looks better because it had more candidates or more epochs."""
    proxy = {"selection": SELECTION_OF_PROXY}
    assert planned({PROXY: proxy, ARCFACE: {"selection": SELECTION}}).candidates.keys() == {
        PROXY,
        ARCFACE,
        # Like it, and so selected as well.
        "SubCenterArcFace_cosine_resnet18_sgd_aug",
    }
    with pytest.raises(RecipeError) as caught:
        planned({PROXY: proxy, ARCFACE: other})
    assert caught.value.keys == ("experiments", ARCFACE, "selection")
    assert words in str(caught.value)
    assert PROXY in str(caught.value)


def test_budgets_are_those_of_the_candidates():
    """Would catch entries refused for their epochs although their candidates train equally long."""
    other = {"selection": SELECTION, "epochs": 50}
    entries = {PROXY: {"selection": SELECTION_OF_PROXY}, ARCFACE: other}
    assert len(planned(entries, epochs=5).candidates) == 3


@pytest.mark.parametrize(
    ("entry", "keys", "words"),
    [
        ({"selection": SELECTION, "initializer": "classifier"}, ("selection",), "held-out classes"),
        ({"selection": SELECTION, "initializer": "simclr"}, ("selection",), "'simclr' is trained"),
        ({"selection": SELECTION, "epochs": 0}, ("selection",), "needs epochs"),
        ({"unsourced": ["loss.scael"]}, ("unsourced",), "'loss.scael', which is no key"),
        ({"unsourced": ["loss_lr.x"]}, ("unsourced",), "'loss_lr.x', which is no key"),
        ({"unsourced": ["loss.scale"], "selection": SELECTION}, ("unsourced",), "is selected"),
    ],
)
def test_what_a_selection_cannot_be_is_named(entry, keys, words):
    """Would catch held-out classes that the initializer knows, or ``unsourced`` without effect."""
    with pytest.raises(RecipeError) as caught:
        planned({ARCFACE: entry})
    assert caught.value.keys == ("experiments", ARCFACE, *keys)
    assert words in str(caught.value)


@pytest.mark.parametrize("selected", [True, False])
def test_batches_that_cannot_be_filled_are_refused_before_any_job(selected):
    """Would catch candidates that fail one by one, or a limited model that fails after hours."""
    # 20 of 200 classes are unseen, and of the others a fifth is held out: 144 are left.
    fits, too_many = (144, 145) if selected else (180, 181)
    selection = {"selection": SELECTION} if selected else {}
    for classes in (fits, too_many):
        entry = {"samples_per_class": 1, "batch_size": classes, **selection}
        if classes == fits:
            planned({ARCFACE: entry})
            continue
        with pytest.raises(RecipeError, match=f"{fits} classes do not fill a batch of") as caught:
            planned({ARCFACE: entry})
        assert caught.value.keys == ("experiments", ARCFACE, *selection)


def test_initializer_that_starts_from_one_of_the_study_is_refused_too():
    """Would catch a chain of initializers whose first one was trained on the held-out classes."""
    config = published()
    config["other_datasets"]["others"] = {**config["dataset"], "name": "others"}
    recipe = config["initializers"]["classifier"]["recipe"]
    config["initializers"]["chained"] = {
        **config["initializers"]["classifier"],
        "dataset": "others",
        "recipe": {**recipe, "initializer": "imagenet"},
    }
    config["experiments"][ARCFACE] |= {"selection": SELECTION, "initializer": "chained"}
    assert ARCFACE in planning.plan(copy.deepcopy(config)).candidates
    config["initializers"]["chained"]["recipe"]["initializer"] = "classifier"
    with pytest.raises(RecipeError, match="'classifier' is trained on the study's own images"):
        planning.plan(config)


@pytest.mark.parametrize("key", ["block", "selection", "unsourced"])
def test_initializers_have_no_selection(key):
    """Would catch a selection that is accepted and then ignored."""
    config = published()
    config["initializers"]["classifier"]["recipe"][key] = {}
    with pytest.raises(RecipeError, match="is a key of experiments only"):
        planning.plan(config)


def test_specs_of_a_selected_experiment():
    """Would catch a value that is both given and selected, or a candidate with the wrong seed."""
    plan = planned({ARCFACE: {"selection": SELECTION, "block": "tuned"}}, seed=None)
    plain = planned()
    assert plan.selected(ARCFACE) == ["loss", "optimizer"]
    final = plan.known(ARCFACE, plan.run_recipe(ARCFACE, 7))
    assert not {"loss", "optimizer"} & final.keys()
    for choice in plan.choices(ARCFACE):
        tried = plan.candidate_recipe(ARCFACE, choice["candidate"]).as_dict()
        assert final | choice["recipe"] == {
            **plain.run_recipe(ARCFACE, 7).as_dict(),
            "loss": {**plain.experiments[ARCFACE]["loss"], "scale": choice["values"]["loss.scale"]},
            "optimizer": {
                **plain.experiments[ARCFACE]["optimizer"],
                "lr": choice["values"]["optimizer.lr"],
            },
        }
        assert tried == {
            **{key: value for key, value in final.items() if key != "eval_every"},
            **choice["recipe"],
            "seed": 42,
        }
    assert "loss" not in wording.description(plan, ARCFACE)["recipe"]
    shorter = planned({ARCFACE: {"selection": SELECTION}}, epochs=3, seed=5)
    tried = shorter.candidate_recipe(ARCFACE, "loss.scale=16+optimizer.lr=0.1")
    assert (tried.epochs, tried.seed) == (3, 5)
    assert shorter.run_recipe(ARCFACE, 7).epochs == 100


def test_selection_is_inherited_as_a_whole():
    """Would catch a loss that inherits selected keys which only its parent's loss has."""
    new = {
        "like": ARCFACE,
        "loss": {"kind": "supcon"},
        "selection": {"loss.temperature": [0.1, 0.2, 0.3], "loss_lr": [1, 2]},
    }
    changes = {
        ARCFACE: {"selection": SELECTION, "block": "tuned"},
        "new": new,
        "deeper": {"like": ARCFACE, "backbone": "resnet50"},
    }
    plan = planned(changes)
    assert plan.selected("new") == ["loss", "loss_lr"]
    assert list(plan.candidates["deeper"]) == list(plan.candidates[ARCFACE])
    assert wording.block(plan, "new") == wording.block(plan, "deeper") == "tuned"
    del new["selection"]
    with pytest.raises(RecipeError, match="'supcon' has no such parameter"):
        planned(changes)
    new["selection"] = {}
    assert "new" not in planned(changes).candidates


def test_tables_say_what_was_selected_and_what_has_no_source():
    """Would catch a tuned row among the published ones, or a hidden value without a source."""
    plan = planned(
        {
            ARCFACE: {
                "selection": SELECTION,
                "block": "tuned",
                "schedule": {"kind": "cosine"},
                "unsourced": ["schedule.kind", "loss.margin"],
            }
        }
    )
    rows = wording.rows(plan)
    # The published one that is like it says that it is published.
    assert [row["experiment"] for row in rows if row["block"] == "tuned"] == [ARCFACE]
    assert [row["block"] for row in rows] == ["published"] * 17 + ["tuned"]
    words = "; selected: loss scale, optimizer lr; without a source: loss margin, schedule kind"
    assert wording.details(plan, ARCFACE).endswith(f"schedule cosine{words}")
    assert wording.description(plan, ARCFACE)["unsourced"] == ["schedule.kind", "loss.margin"]


def test_own_experiments_stand_in_a_block_of_their_own():
    """Would catch somebody's own entry among the published ones, or before them."""
    parent = next(iter(planned({}).entries))
    changes = {
        "alone": {
            key: value for key, value in planned({}).entries[parent].items() if key != "block"
        },
        "mine": {"like": parent, "epochs": 3},
        "mine_too": {"like": "mine", "epochs": 4},
        "better": {"like": parent, "block": "tuned"},
        "better_too": {"like": "better", "epochs": 5},
        "said": {"like": "better", "block": "own"},
    }
    blocks = {row["experiment"]: row["block"] for row in wording.rows(planned(changes))}
    assert list(dict.fromkeys(blocks.values())) == ["published", "tuned", "own"]
    own = [name for name, block in blocks.items() if block == "own"]
    assert own == ["alone", "mine", "mine_too", "said"]
    assert [name for name, block in blocks.items() if block == "tuned"] == ["better", "better_too"]
    assert wording.description(planned(changes), "mine")["block"] == "own"
    assert "block" not in wording.description(planned(changes), parent)
    assert tuple(BLOCKS) == recipes.BLOCKS


def test_page_separates_blocks_and_names_a_sick_baseline():
    """Would catch tuned rows among the published ones, or a heading for a single block.

    And a page that does not say at its head that its baseline is worse than before training.
    """
    columns = re.findall(r"row\.(\w+)", (ROOT / TEMPLATE).read_text(encoding="utf-8"))
    facts = {"queries": 3, "gallery": 9, "classes": 2, "unseen_classes": 1, "seeds": 1}
    drops = [f"precision_drop_unseen_classes{end}" for end in ("", "_low", "_high")]
    empty = {**dict.fromkeys([*columns, *drops, "precision_drop_seen_classes"], float("nan"))}
    empty |= {f"precision_at_1{end}": 0.5 for end in ("", "_low", "_high")}
    table = pd.DataFrame(
        [
            {**empty, **facts, "unseen_draws": 1, **row}
            for row in (
                {"experiment": "plain", "block": "published", "details": "", "baseline": "plain"},
                {"experiment": "better", "block": "tuned", "details": "selected: loss scale"},
            )
        ]
    )
    keys = {"seed": 42, "class_set": "limited_classes", "experiment": "plain"}
    tables = {
        "experiments": table,
        "curves": pd.DataFrame([{**keys, "epoch": 1, "test_accuracy": 0.5}]),
        "enrolment": pd.DataFrame(
            [
                {
                    **keys,
                    "model": "limited_classes",
                    "method": "nearest_neighbour",
                    "images_per_class": "all",
                    **dict.fromkeys(("unseen_accuracy", "low", "high"), 0.5),
                }
            ]
        ),
        "health": pd.DataFrame(columns=COLUMNS),
        **{
            name: pd.DataFrame()
            for name in (
                *("costs", "published", "published_deductions", "answers", "pretraining"),
                *("verdict", "verdict_costs"),
            )
        },
        "rejection_scores": pd.DataFrame(columns=["model", "class_set"]),
        "rejection_thresholds": pd.DataFrame(
            columns=["model", "class_set", "accepted_share", "way"]
        ),
    }
    table["deduction"], table["published_test_accuracy"] = "", float("nan")
    table["published_verdict"], table["published_experiment"] = "", ""
    metrics = (*("precision_at_1", "precision_drop_unseen_classes"),
               *(f"{model}_precision_at_1_unseen_classes" for model in ("limited", "all_classes")))  # fmt: skip
    tables |= {
        "metrics": pd.DataFrame(
            {"experiment": name, "metric": metric, "value": 0.5, "low": 0.4, "high": 0.6}
            for name in ("plain", "better")
            for metric in metrics
        ),
        "differences": pd.DataFrame(columns=["experiment", "role", "metric"]),
        "rejection": pd.DataFrame(columns=["experiment", "model", "class_set"]),
        "costs": pd.DataFrame(
            {**keys, "experiment": name, "class_set": "all_classes", "device": "cpu"}
            | dict.fromkeys(("total_seconds", "train_seconds", "images_per_second"), 60.0)
            | dict.fromkeys(("peak_host_memory_mb", "peak_device_memory_mb"), 100.0)
            for name in ("plain", "better")
        ),
    }
    entry = {"details": "", "recipe": {"epochs": 1, "compute_threads": 1}}
    about = facts_of_study(
        {"dataset": "birds", "drawn": False},
        table.iloc[0],
        dict.fromkeys(("plain", "better"), entry),
        seeds=[42],
        baseline="plain",
    )
    photographs = {"seen": [], "unseen": [], "classes": [1, 1]}
    names = ("plain", "better")
    side = {"packed": "", "experiments": names, "beside": dict.fromkeys(names, "")}
    side |= {"queries": 3, "shown": 3, "photographs": 0}

    def index(tables):
        return comparison_pages(Study(about, tables), photographs, side, "", links)["index"]

    links = {"plain": ["a", "a"], "better": ["b", "b"]}
    page = index(tables)
    first, second = page.split(">Tuned variants</th>")
    assert ">As published</th>" in first
    assert ">plain</a>" in first
    assert ">better</a>" not in first
    assert ">better</a>" in second.split("</tbody>")[0]
    assert "tuning.csv" in second
    assert "worse than the features it started from" not in page
    assert "No sign that something went wrong" in page
    alone = index({**tables, "experiments": table[:1]})
    assert "As published" not in alone
    assert "tuning.csv" not in alone
    worse = {**keys, "sign": WORSE_THAN_START, "title": "worse", "finding": WARNING}
    worse |= {"sentence": "precision@1 is <16> %", "try_this": "a lower rate"}
    sick = {**tables, "health": pd.DataFrame([worse], columns=COLUMNS)}
    head = index(sick).split('<section id="table">')[0]
    assert "The baseline (plain) is worse than the features it started from" in head
    assert "Limited classes, seed 42: precision@1 is &lt;16&gt; %" in head


def test_selected_experiment_is_no_reproduction():
    """Would catch a comparison with a published metric although the values differ."""
    recipes_run = read_yaml(ROOT / "config" / "published_recipes.yaml")
    # Two notebooks had their losses swapped, so this recipe was run under the other name.
    other = "SubCenterArcFace_cosine_resnet18_sgd_aug"
    matches = reproduction(planned(), recipes_run)["matches"]
    assert matches[other]["experiment"] == ARCFACE
    plan = planned({ARCFACE: {"selection": SELECTION}})
    matches = reproduction(plan, recipes_run)["matches"]
    assert matches[other]["experiment"] is None
    assert matches[other]["why"] == "its values were selected here"


# The tuned variants.

EXTENDED = ROOT / "config" / "extended.yaml"


def extended():
    config = published()
    config["experiments"] |= read_yaml(EXTENDED)["experiments"]
    configuration.validate(config, [*FILES, str(EXTENDED)])
    return planning.plan(config)


def test_tuned_variants_change_nothing_that_is_published():
    """Would catch a published model that changes or is trained again because of tuned variants."""
    plan, tuned = planning.plan(published()), extended()
    for name in plan.experiments:
        assert tuned.run_recipe(name, 42) == plan.run_recipe(name, 42)
        assert wording.description(tuned, name) == wording.description(plan, name)
        assert recipes.pieces(tuned.experiments[name]) == recipes.pieces(plan.experiments[name])
    assert wording.rows(tuned)[: len(plan.experiments)] == wording.rows(plan)
    assert {row["block"] for row in wording.rows(plan)} == {"published"}


def test_every_loss_has_a_tuned_variant_of_one_budget():
    """Would catch a loss that is not tuned, or that has more candidates than others."""
    tuned = extended()
    names = [name for name in tuned.experiments if wording.block(tuned, name) == "tuned"]
    assert names == list(tuned.candidates)
    losses = [tuned.experiments[name]["loss"]["kind"] for name in names]
    # SimCLR's does without labels.
    assert sorted(losses) == [kind for kind in registry.kinds("loss") if kind != "simclr"]
    assert {len(tried) for tried in tuned.candidates.values()} == {9}
    for name, tried in tuned.candidates.items():
        # A key that is selected must make a difference.
        assert len({json.dumps(candidate["recipe"]) for candidate in tried.values()}) == 9
        assert any(key.startswith("loss") for key in tuned.inherited[name]["selection"])


def test_every_value_of_the_tuned_variants_has_its_source():
    """Would catch a value without a source."""
    unsourced = {
        name: entry.get("unsourced", [])
        for name, entry in read_yaml(EXTENDED)["experiments"].items()
    }
    entry = top = None
    for line in EXTENDED.read_text(encoding="utf-8").split("experiments:\n")[1].splitlines():
        if match := re.match(r"  (\w+):$", line):
            entry = match[1]
        elif match := re.match(r"    (\w+):( .*)?$", line):
            top = match[1]
            sourced = top in ("block", "like", "unsourced") or not match[2] or "#" in line
            assert sourced or top in unsourced[entry], f"{entry}: {line}"
        elif match := re.match(r"      ([\w.]+): ", line):
            key = f"{top}.{match[1]}"
            # The kind of a piece shares the source of its values.
            sourced = top == "selection" or match[1] == "kind" or "#" in line
            assert sourced or key in unsourced[entry], f"{entry}: {line}"


# The images that a selection may use.


def tables(classes=10, images=12, unseen=(), parts=("train", "train", "train", "test")):
    """Manifest, split and class sets. ``unseen``: the unseen classes of each limited class set."""
    count = classes * images
    class_ids = np.arange(count) % classes
    manifest = pd.DataFrame(
        {
            "image_id": range(count),
            "class_id": class_ids,
            "class_name": [f"class {index}" for index in class_ids],
        }
    )
    split = pd.DataFrame(
        {"image_id": range(count), "part": [parts[i // classes % len(parts)] for i in range(count)]}
    )
    sets = [("all_classes", ())] + [(f"limited_{i}", out) for i, out in enumerate(unseen)]
    class_sets = pd.DataFrame(
        [
            {"class_set": name, "class_id": c, "seen": int(c not in out)}
            for name, out in sets
            for c in range(classes)
        ]
    )
    return manifest, split, class_sets


def held_out(validation_share=0.25, held_out_share=0.2, seed=1, **options):
    return hold_out(
        *tables(**options),
        validation_share=validation_share,
        held_out_share=held_out_share,
        seed=seed,
    )


def test_parts_of_a_selection():
    """Would catch a test image, an unseen class, or a class that is both trained and held out."""
    options = {
        "unseen": [(8, 9), (0, 9)],
        "parts": ("train", "validation", "train", "test", "train"),
    }
    manifest, split, _ = tables(**options)
    table = held_out(**options)
    assert list(table.columns) == ["image_id", "class_id", "part"]
    assert table["image_id"].is_monotonic_increasing
    assert table["image_id"].is_unique
    assert set(table["class_id"]) == {1, 2, 3, 4, 5, 6, 7}
    expected = manifest.merge(split)
    expected = expected[(expected["part"] == "train") & expected["class_id"].isin(range(1, 8))]
    assert table["image_id"].tolist() == expected["image_id"].tolist()
    assert table["class_id"].tolist() == expected["class_id"].tolist()
    found = table.groupby("class_id")["part"].agg(set)
    held = found[found == {"held_out"}]
    assert len(held) == round(0.2 * 7)
    assert len(found[found == {"train", "validation"}]) == 7 - len(held)
    for class_id in found.index.difference(held.index):
        counts = table.loc[table["class_id"] == class_id, "part"].value_counts()
        assert counts["validation"] == round(0.25 * counts.sum())


def test_seed_draws_what_is_held_out():
    """Would catch a draw of the first classes or images, or one that depends on other columns."""
    first, again, other = held_out(), held_out(), held_out(seed=2)
    pd.testing.assert_frame_equal(first, again)
    assert first["part"].tolist() != other["part"].tolist()
    # Class names do not matter.
    more = hold_out(
        *(tables(images=12)[0].assign(class_name="x"), *tables(images=12)[1:]),
        validation_share=0.25,
        held_out_share=0.2,
        seed=1,
    )
    pd.testing.assert_frame_equal(first, more)


def test_each_class_has_a_query_and_a_gallery_image():
    """Would catch a small share that gives no query, or a large one that leaves no training image."""
    for share in (0.01, 0.99):
        sizes = held_out(validation_share=share).groupby(["class_id", "part"]).size()
        # Two of ten classes are held out.
        assert len(sizes) == 2 + 2 * 8
        assert sizes.min() == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"unseen": [(0, 1, 2, 3), (4, 5, 6, 7)]}, "2 of 10 classes are seen in every class set"),
        ({"unseen": [range(5), range(5, 10)]}, "0 of 10 classes are seen in every class set"),
        ({"held_out_share": 0.9}, "with 9 held out, fewer than two are left to train on"),
        ({"images": 3, "parts": ("train", "test", "test")}, "'class 0' has one training image"),
    ],
)
def test_too_little_to_select_by_is_refused(options, words):
    """Would catch a selection on classes that are unseen to a model, or on no classes."""
    with pytest.raises(StudyError, match=words):
        held_out(**options)


# Trying and choosing.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyStudy(tmp_path_factory.mktemp("tiny"), classes=8)


@pytest.fixture(scope="module")
def images(tiny):
    return hold_out(
        tiny.manifest,
        tiny.split,
        pd.concat(tiny.class_sets.values()),
        validation_share=0.4,
        held_out_share=0.34,
        seed=3,
    )


TRIED = {
    "first": small_recipe(loss={"kind": "proxy_anchor"}, epochs=2),
    "other": small_recipe(
        loss={"kind": "proxy_anchor"}, epochs=2, optimizer={"kind": "sgd", "lr": 0.1}
    ),
}


def attempt(tiny, images, train_pack=None, test_pack=None, recipe=None):
    """(scores of both candidates as JSON, the chosen candidate, training losses)."""
    losses, scores = [], {}
    for name, recipe in TRIED.items():
        scores[name], _ = try_recipe(
            recipe,
            images,
            train_pack or tiny.train_pack,
            test_pack or tiny.test_pack,
            on_epoch=lambda row, rate: losses.append(row["train_loss"]),
        )
    return json.dumps(scores), choose("x", scores), losses


@pytest.fixture(scope="module")
def original(tiny, images):
    return attempt(tiny, images)


def scores_by_hand(tiny, images, recipe):
    """Scores of the same training, with each nearest neighbour found by comparing all pairs."""
    rows = images[images["part"] == "train"]
    labels = rows["class_id"].rank(method="dense").astype(int).to_numpy() - 1
    ids = np.array(rows["image_id"])
    trainer = Trainer(recipe, tiny.train_pack, ids, labels, labels.max() + 1)
    for _ in range(recipe.epochs):
        trainer.train_epoch()
    batches = ImageBatches(tiny.test_pack, 32, trainer.device)
    classes = dict(zip(images["image_id"], images["class_id"], strict=True))
    parts = images.groupby("part")["image_id"].agg(list)
    gallery = sorted(parts["train"] + parts["held_out"])
    vectors = {}
    for name, ids in (("query", parts["validation"] + parts["held_out"]), ("gallery", gallery)):
        found = normalised(embed(trainer.model, batches, ids, "float32")).astype(float)
        vectors[name] = dict(zip(ids, found, strict=True))

    def answer(query):
        vector = vectors["query"][query]
        others = [other for other in gallery if other != query]
        return max(others, key=lambda other: (vectors["gallery"][other] @ vector, -other))

    shares = []
    for part in ("validation", "held_out"):
        hits = [classes[answer(query)] == classes[query] for query in parts[part]]
        shares.append(sum(hits) / len(hits))
    return shares


def test_scores_are_those_of_validation_and_held_out_images(tiny, images, original):
    """Would catch queries that find themselves, missing held-out classes, or mixed labels."""
    scores = json.loads(original[0])["first"]
    validation, held = scores_by_hand(tiny, images, TRIED["first"])
    assert scores["precision_at_1_validation"] == pytest.approx(validation, abs=1e-12)
    assert scores["precision_at_1_held_out_classes"] == pytest.approx(held, abs=1e-12)
    assert scores["harmonic_mean"] == harmonic_mean(validation, held)
    sizes = images.groupby("part").size()
    assert scores["validation_queries"] == sizes["validation"]
    assert scores["held_out_queries"] == sizes["held_out"]
    assert scores["gallery"] == sizes["train"] + sizes["held_out"]
    assert (scores["trained_classes"], scores["held_out_classes"]) == (4, 2)
    assert validation > 0
    assert not scores["diverged"]


def test_selection_knows_no_test_image_and_no_unseen_class(tiny, images, original):
    """Would catch hyper-parameters that are selected on test images or unseen classes."""
    unseen = np.flatnonzero(tiny.manifest["class_id"] >= 6)
    hidden = np.setdiff1d(np.arange(len(tiny.manifest)), images["image_id"])
    tests = np.flatnonzero(tiny.split["part"] == "test")
    assert set(hidden) == set(unseen) | set(tests)
    packs = changed(tiny.train_pack, hidden), changed(tiny.test_pack, hidden)
    assert attempt(tiny, images, *packs) == original
    # The draw does not depend on the classes of those images either.
    manifest = tiny.manifest.copy()
    manifest.loc[unseen, "class_id"] = np.roll(manifest.loc[unseen, "class_id"], 1)
    again = hold_out(
        manifest,
        tiny.split,
        pd.concat(tiny.class_sets.values()),
        validation_share=0.4,
        held_out_share=0.34,
        seed=3,
    )
    pd.testing.assert_frame_equal(again, images)


@pytest.mark.parametrize("part", ["train", "validation", "held_out"])
def test_selection_knows_each_of_its_parts(tiny, images, original, part):
    """Would catch the test above passing because scores do not depend on pixels at all."""
    rows = images.loc[images["part"] == part, "image_id"].to_numpy()
    packs = changed(tiny.train_pack, rows), changed(tiny.test_pack, rows)
    scores, _, losses = attempt(tiny, images, *packs)
    assert scores != original[0]
    assert (losses == original[2]) == (part != "train")


def test_diverged_candidate_is_no_error(tiny, images):
    """Would catch a learning rate that is too high and ends the whole selection."""
    recipe = small_recipe(epochs=1)
    recipe = recipe.changed(optimizer={**recipe.optimizer, "lr": 1e20})
    scores, _ = try_recipe(recipe, images, tiny.train_pack, tiny.test_pack)
    assert scores["diverged"]
    assert scores["harmonic_mean"] is scores["precision_at_1_validation"] is None
    json.dumps(scores, allow_nan=False)


def test_other_mistakes_of_a_candidate_are_errors(tiny, images):
    """Would catch a batch that cannot be filled, if it counts as a bad candidate."""
    with pytest.raises(StudyError, match="do not fill a batch"):
        try_recipe(small_recipe(samples_per_class=1), images, tiny.train_pack, tiny.test_pack)


@pytest.mark.parametrize(
    ("first", "second", "mean"), [(0.5, 0.5, 0.5), (1, 0, 0), (0, 0, 0), (0.8, 0.4, 0.64 / 1.2)]
)
def test_harmonic_mean(first, second, mean):
    """Would catch a mean that is high although accuracy on held-out classes is low."""
    assert harmonic_mean(first, second) == pytest.approx(mean, abs=1e-12)


def score(mean, diverged=False, softmax=None):
    numbers = dict.fromkeys(
        (
            "precision_at_1_validation",
            "precision_at_1_held_out_classes",
            "epochs",
            "seed",
            "trained_classes",
            "held_out_classes",
            "validation_queries",
            "held_out_queries",
            "gallery",
        ),
        1,
    )
    found = {"harmonic_mean": mean, "softmax_accuracy_validation": softmax}
    return {**numbers, **found, "diverged": diverged}


def test_best_candidate_is_chosen_and_the_first_of_equals():
    """Would catch the last of equals, the worst, or a diverged candidate chosen as the best."""
    scores = {"a": score(0.2), "b": score(None, True), "c": score(0.7), "d": score(0.7)}
    assert choose("x", scores) == "c"
    assert choose("x", {"a": score(None, True), "b": score(0.0)}) == "b"
    # A linear probe: the neighbours are the same whatever its learning rate.
    probes = {"a": score(0.7, softmax=0.1), "b": score(0.7, softmax=0.8), "c": score(0.6, False, 1)}
    assert choose("x", probes) == "b"
    rows = tuning_rows("x", scores, "c")
    assert [row["values"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["chosen"] for row in rows] == [0, 0, 1, 0]
    assert [row["diverged"] for row in rows] == [0, 1, 0, 0]
    assert {row["candidates"] for row in rows} == {4}
    with pytest.raises(StudyError, match=r"experiments\.x\.selection: .* every candidate diverged"):
        choose("x", {"a": score(None, True)})
