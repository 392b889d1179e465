"""The typed configuration: every key refuses every kind of wrong value, and the reference is current."""

import copy

import pytest
import yaml
from configurations import FILES, PROJECT, PUBLISHED, at, refusal, small

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError
from dmlstudy.plan import configuration, reference, settings
from dmlstudy.plan.candidates import SELECTABLE
from dmlstudy.plan.parameters import parameters, parse
from dmlstudy.plan.planning import plan
from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.recipe_factory import make_recipe
from dmlstudy.plan.recipes import PIECES, RecipeError, complete_piece

# One of each kind that YAML knows, and numbers at the edges.
VALUES = (
    None, True, False, 0, -1, 1, 42.0, 1.5, -0.1, 2**40, float("inf"), float("nan"),
    "", "text", "42", "-1", " ", "a\n", "1e-3", 10**400, -0.0, [], [0], ["text"], [None], ["a", "a"], [[]],
    {}, {"kind": "none"}, {"unknown": 1}, {1: 2}, {None: "text"},
)  # fmt: skip


def test_reference_and_schema_are_current():
    """Would catch a key whose description or range changed in the code only."""
    for path, content in reference.documents().items():
        assert (PROJECT / path).read_text(encoding="utf-8") == content, (
            f"{path} is stale: run python workflow/scripts/write_reference.py"
        )


def test_reference_names_every_key():
    """Would catch a key that nobody can find, or a key without a meaning."""
    keys = {key: meaning for key, _, _, meaning in reference.all_keys()}
    assert {"protocol.cuda_graphs", "dataset.drawn.seed", "initializers.NAME.kind"} <= keys.keys()
    assert all(keys.values())
    text = reference.reference()
    for piece in PIECES:
        for kind in registry.kinds(piece):
            assert f"| `{kind}` |" in text
            for name, one in parameters(piece, kind).items():
                assert f"| {one.meaning} | `{name}` |" in text


def test_every_file_of_the_project_fits_the_schema():
    """Would catch a schema for editors that refuses what the workflow takes."""
    import jsonschema

    schema = yaml.safe_load(reference.schema())
    jsonschema.Draft202012Validator(schema).validate(PUBLISHED)


# Keys of recipes, of experiments and of initializers, and of what a selection lists.
ENTRY = [
    *(f"{name}.{parameter}" for name in PIECES for parameter in ("kind", "unknown")),
    *("optimizer.lr", "optimizer.momentum", "loss.temperature", "head.embedding_dim"),
    *settings.Entry.model_fields,
]
KEYS = [
    *(
        key.replace("initializers.NAME", "initializers.imagenet").replace("BACKBONE", "resnet18")
        for key, *_ in reference.all_keys()
        if not key.startswith("other_datasets.NAME")
    ),
    *(f"other_datasets.more.{name}" for name in settings.OtherDataset.model_fields),
    *(f"experiments.EPSHN_cosine_resnet18_sgd_aug.{name}" for name in ENTRY),
    *(f"experiments.EPSHN_cosine_resnet18_sgd_aug.selection.{name}" for name in SELECTABLE),
    *(f"initializers.classifier.recipe.{name}" for name in ENTRY),
    *(f"initializers.classifier.backbones.resnet50.{name}" for name in ENTRY),
    *("learning_rate_scale.sgd", "learning_rate_scale.sdg"),
    *("substitute_initializers.imagenet", "substitute_initializers.imagnet"),
]


@pytest.mark.parametrize("key", KEYS)
def test_every_key_refuses_wrong_values_in_words(key):
    """Would catch a value that passes and ends an inner program, or a message that names no key."""
    refused = 0
    for value in VALUES:
        config = small()
        if key.startswith("other_datasets.more."):
            config["other_datasets"] = {"more": {"format": "cub", "source": "more.tgz"}}
        if key.startswith("dataset.drawn."):
            config["dataset"] |= {"source": None, "classes": None}
            config["dataset"]["drawn"] = {
                "classes": 40,
                "images_per_class": 4,
                "image_size": 16,
                "seed": 1,
            }
        holder, last = at(config, key)
        holder[last] = copy.deepcopy(value)
        message = refusal(config)
        if message is None:
            continue
        refused += 1
        for sentence in message.splitlines():
            place, words = sentence.split(": ", 1)
            assert words, sentence
            top, part = key.split(".")[0], key.split(".")[-1]
            # Values that do not fit together may be told at either of them.
            assert top in place or part in sentence, sentence
            assert len(sentence) < 2000
    assert refused


@pytest.mark.parametrize("value", [10**400, 1e300, -(10**400), "1" * 5000, ["x"] * 5000])
def test_values_of_any_size_are_refused(value):
    """Would catch an overflow, or a message of megabytes."""
    for key in ("protocol.epochs", "protocol.resize_margin", "dataset.bytes", "protocol.seeds"):
        config = small()
        holder, last = at(config, key)
        holder[last] = value
        message = refusal(config)
        assert key in message
        assert len(message) < 1_000_000 if isinstance(value, list) else len(message) < 500


def test_every_number_has_a_range():
    """Would catch a number that editors take and the workflow ends with, or the other way round."""

    def numbers(schema, path=()):
        if isinstance(schema, dict):
            kinds = schema.get("type")
            if set([kinds] if isinstance(kinds, str) else kinds or ()) & {"integer", "number"}:
                yield ".".join(map(str, path)), schema
            for key, value in schema.items():
                yield from numbers(value, (*path, key))
        elif isinstance(schema, list):
            for number, value in enumerate(schema):
                yield from numbers(value, (*path, number))

    found = dict(numbers(yaml.safe_load(reference.schema())))
    assert len(found) > 60
    for path, schema in found.items():
        assert {"minimum", "exclusiveMinimum"} & schema.keys(), path
        assert {"maximum", "exclusiveMaximum"} & schema.keys(), path


@pytest.mark.parametrize("piece", PIECES)
def test_every_parameter_refuses_wrong_values_in_words(piece):
    """Would catch a negative learning rate or a margin of 200 degrees that trains for hours."""
    for value in VALUES:
        with pytest.raises(RecipeError, match=f"unknown {piece}"):
            complete_piece(piece, {"kind": value}, ("here",))
    for kind in registry.kinds(piece):
        for name, one in parameters(piece, kind).items():
            for value in VALUES:
                values = {"kind": kind, name: value}
                if one.mistake(value) is None:
                    assert complete_piece(piece, values, ("here",))[name] == value
                    continue
                with pytest.raises(RecipeError, match="must be") as caught:
                    complete_piece(piece, values, ("here",))
                assert caught.value.keys == ("here", name)


@pytest.mark.parametrize(
    ("piece", "kind", "name", "wrong", "right"),
    [
        ("optimizer", "sgd", "lr", (-0.1, 0, float("nan")), (1e-9, 1)),
        ("optimizer", "sgd", "momentum", (-1, 1), (0, 0.9)),
        ("head", "skip_connection", "dropout", (1, 2, -0.1), (0, 0.5)),
        ("head", "linear", "embedding_dim", (0, -3, 1, 1.5), (2, 128.0)),
        ("loss", "subcenter_arcface", "sub_centers", (0,), (1,)),
        ("loss", "crossentropy", "label_smoothing", (1, 2), (0.1,)),
        ("schedule", "step", "every", (0,), (1,)),
        ("schedule", "cosine", "warmup", (-1,), (0,)),
    ],
)
def test_ranges_of_parameters(piece, kind, name, wrong, right):
    """Would catch a bound that is off by its end, or that nobody checks."""
    one = parameters(piece, kind)[name]
    assert all(one.mistake(value) for value in wrong)
    assert not any(one.mistake(value) for value in right)


def test_whole_numbers_may_be_written_as_floats():
    """Would catch `split_seed: 42.0`, which a program's command line does not take."""
    config = copy.deepcopy(PUBLISHED)
    config["protocol"] |= {"split_seed": 42.0, "compute_threads": 1.0, "seeds": [7.0]}
    config["dataset"]["classes"] = 200.0
    configuration.validate(config, FILES)
    values = (
        config["protocol"]["split_seed"],
        config["protocol"]["compute_threads"],
        config["protocol"]["seeds"][0],
        config["dataset"]["classes"],
    )
    assert values == (42, 1, 7, 200)
    assert all(type(value) is int for value in values)


def test_names_that_yaml_reads_as_something_else():
    """Would catch a TypeError for an experiment that is called 2024, no or null."""
    for name, spelled in ((2024, "2024"), (False, "false"), (None, "null")):
        config = copy.deepcopy(PUBLISHED)
        config["experiments"][name] = {"like": config["baseline"]}
        with pytest.raises(StudyError, match=rf"experiments\.{spelled}: is read as .*quotes"):
            configuration.validate(config, FILES)


def test_annotations_are_read_as_they_are_written():
    """Would catch a bound that is parsed as another one."""
    one = parse("Annotated[float | None, '>= 0, < 1', 'a share']", None)
    assert (one.type, one.range, one.meaning) == ("float | None", ">= 0, < 1", "a share")
    assert one.mistake(None) is None
    assert one.mistake(1) == "is 1; must be >= 0, < 1"
    with pytest.raises(ValueError, match="Annotated"):
        parse("float", 1.0)


# The recipe.


def test_recipe_goes_through_json():
    """Would catch a field that is lost between the workflow and a program."""
    recipe = make_recipe(loss={"kind": "arcface"}, loss_lr=0.5, cuda_graphs=False, seed=7)
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    assert recipe.as_dict()["cuda_graphs"] is False


def test_default_fields_are_left_out():
    """Would catch a new field that retrains everything."""
    assert "cuda_graphs" not in make_recipe().as_dict()
    assert "eval_every" not in make_recipe(eval_every=None).as_dict()
    later = {"trained_parts", "backbone_lr", "clip_gradients"}
    assert not later & make_recipe().as_dict().keys()
    changed = make_recipe(trained_parts={"kind": "last_blocks"}, backbone_lr=0.1, clip_gradients=1)
    assert later <= changed.as_dict().keys()
    assert Recipe.from_dict(changed.as_dict()) == changed


@pytest.mark.parametrize(
    ("change", "words"),
    [({"colour": 1}, "unknown key 'colour'"), ({"epochs": None}, "epochs is missing")],
)
def test_wrong_recipes_are_refused(change, words):
    """Would catch a recipe of another version that trains with a default in place of a value."""
    values = {**make_recipe().as_dict(), **change}
    values = {key: value for key, value in values.items() if value is not None or key == "loss_lr"}
    with pytest.raises(StudyError, match=words):
        Recipe.from_dict({**values, "samples_per_class": None})


def test_recipe_cannot_be_changed():
    """Would catch a program that edits the recipe that it writes down."""
    with pytest.raises(AttributeError):
        make_recipe().epochs = 3


def test_defaults_stand_in_one_place():
    """Would catch a factory for benchmarks and tests that trains otherwise than the study."""
    protocol = settings.Protocol()
    shared = ("epochs", "batch_size", "samples_per_class", "image_size", "precision", "eval_every")
    for key in (*shared, "compute_threads", "cuda_graphs"):
        assert getattr(make_recipe(), key) == getattr(protocol, key), key
    baseline = plan(validated()).run_recipe(PUBLISHED["baseline"], protocol.seeds[0])
    assert make_recipe() == baseline


def validated():
    config = small()
    configuration.validate(config, FILES)
    return config


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ("initializers.classifier.backbones", {"resnet18": {"initializer": "classifier"}}, "initializer: must be left out"),
        ("initializers.classifier.backbones", {"resnet18": {"backbone": "resnet50"}}, "backbone: must be left out"),
        ("initializers.classifier.recipe.backbone", "resnet50", "recipe.backbone: must be left out"),
        ("initializers.classifier.recipe.like", "x", "recipe.like: is a key of experiments only"),
        ("initializers.imagenet.weights", {"resnet18": "foo://[::1"}, "is not an address"),
        ("dataset.source", "http://[x", "is not an address"),
        ("learning_rate_scale", {"sgdd": 5}, "learning_rate_scale.sgdd: unknown optimizer; known: adam, adamw, sgd"),
        ("other_datasets", {"a": {"format": "cub", "source": "x", "name": "b"}}, "other_datasets.a.name: unknown key"),
        ("published", {"figures": [{"experiment": "a", "colour": 1}]}, "published.figures.0.colour: unknown key; known here: differs,"),
        ("evaluation.vote_neighbours", [], "must not be empty"),
        ("untrained.augmentation", {"kind": ["none"]}, "unknown augmentation ['none']"),
    ],
)  # fmt: skip
def test_what_ended_in_a_traceback_is_refused(keys, value, words):
    """Would catch an endless loop, a leak through an initializer, or a TypeError while planning."""
    config = small()
    holder, last = at(config, keys)
    holder[last] = value
    assert words in refusal(config)
