"""Configurations that nobody would write: drawn from the schema, with wrong values among them."""

import copy

import yaml
from configurations import PUBLISHED, describe, refusal, small
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from dmlstudy.core import registry
from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.names import dotted
from dmlstudy.plan import arguments, identity, reference, wording
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.needs import needs
from dmlstudy.plan.planning import plan
from dmlstudy.plan.recipes import PIECES

SCHEMA = yaml.safe_load(reference.schema())
# What other keys name, so that most names exist.
NAMES = [
    *small()["experiments"],
    *PUBLISHED["initializers"],
    *(kind for piece in registry.REGISTRY for kind in registry.kinds(piece)),
    *("study", "timm/test_vit", "torchvision/mobilenet_v2", "optimizer.lr", "loss.temperature"),
    *("new", "2024", "no", "~", "~/x", "-x", "../x", "https://host/a.tgz", "a b", "ü", "{x}", "$X"),
]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(NAMES),
)
KEYS = st.one_of(
    st.sampled_from(NAMES), st.text(max_size=5), st.integers(), st.none(), st.booleans()
)
WRONG = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=4,
)


def resolved(node):
    while "$ref" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]]
    return node


@st.composite
def values(draw, node):
    """A value that a node of the schema takes, or now and then any other one."""
    if draw(st.integers(0, 14)) == 7:
        return draw(WRONG)
    node = resolved(node)
    if "anyOf" in node:
        return draw(values(draw(st.sampled_from(node["anyOf"]))))
    if "enum" in node:
        return draw(st.sampled_from(node["enum"]))
    if "const" in node:
        return node["const"]
    kind = node.get("type")
    if isinstance(kind, list):
        kind = draw(st.sampled_from(kind))
    if kind == "object":
        return draw(mappings(node))
    if kind == "array":
        item = values(node.get("items", {}))
        return draw(st.lists(item, min_size=node.get("minItems", 0), max_size=4))
    if kind in ("integer", "number"):
        low = node.get("minimum", node.get("exclusiveMinimum"))
        high = node.get("maximum", node.get("exclusiveMaximum"))
        if kind == "integer":
            return draw(st.integers(low, min(high, low + 50)) | st.integers(low, high))
        return draw(st.floats(low, high))
    if kind == "string":
        text = st.from_regex(node["pattern"]) if "pattern" in node else st.text(max_size=10)
        return draw(st.sampled_from(NAMES) | text)
    if kind == "boolean":
        return draw(st.booleans())
    if kind == "null":
        return None
    return draw(WRONG)


@st.composite
def mappings(draw, node):
    """A mapping with some of the keys that a node of the schema knows."""
    properties = node.get("properties")
    if properties is None:
        inner = node.get("additionalProperties")
        inner = values(inner) if isinstance(inner, dict) else WRONG
        return draw(st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=2))
    found = {}
    for key in draw(
        st.lists(st.sampled_from(list(properties)), min_size=1, max_size=3, unique=True)
    ):
        found[key] = draw(values(properties[key]))
    for key in node.get("required", ()):
        if key not in found and draw(st.integers(0, 9)):
            found[key] = draw(values(properties[key]))
    if draw(st.integers(0, 19)) == 7:
        found[draw(KEYS)] = draw(WRONG)
    return found


def update(config, change):
    """As Snakemake merges a file over others."""
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            update(config[key], value)
        else:
            config[key] = copy.deepcopy(value)


def keys_of(change):
    """All keys of a nested mapping, as texts."""
    for key, value in change.items():
        yield dotted([key])
        if isinstance(value, dict):
            yield from keys_of(value)


# All top keys of the configuration; the required ones are in the configuration that is changed.
CHANGES = mappings({**SCHEMA, "required": []})


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(change=CHANGES)
# An unknown key inside a list.
@example(change={"published": {"md5": None, "size": None, "figures": [{"unknown": None}]}})
def test_any_configuration_is_planned_or_refused_in_words(change):
    """Would catch a traceback while planning, or a refusal without the key."""
    config = small()
    update(config, change)
    note(str(change))
    message = refusal(config)
    if message is None:
        everything(plan(config, describe))
        return
    for sentence in message.splitlines():
        place, colon, words = sentence.partition(": ")
        assert colon
        assert words
        assert any(key in sentence for key in keys_of(change)), sentence
        assert place


def everything(study):
    """What the workflow asks a study before its first job."""
    for name in study.experiments:
        for seed in study.seeds[:2]:
            canonical_json(study.known(name, study.run_recipe(name, seed)))
        canonical_json(wording.description(study, name))
    for name, tried in study.candidates.items():
        for candidate in tried:
            study.candidate_recipe(name, candidate).as_json()
        canonical_json(study.choices(name))
    for name, backbone in study.starts():
        if study.initializers[name]["kind"] == "trained":
            study.initializer_recipe(name, backbone, 1).as_json()
    for name, dataset in study.datasets.items():
        canonical_json([needs(study, name), study.class_sets_of(name), study.packs_of(name)])
        arguments.listing(dataset)
        arguments.verification(dataset)
    canonical_json([wording.rows(study), wording.notes(study), identity.identity(study)])
    layout = Layout(study.config["results_dir"], study, by_digest=str)
    for name in layout.feature_sets():
        assert layout.feature_inputs(name)["weights"]
        layout.feature_recipe(name).as_json()
    for path in layout.final_targets(study.limited):
        assert not path.startswith(("-", "./")), path
        assert "//" not in path, path
    assert all(piece in study.experiments[name] for name in study.experiments for piece in PIECES)
