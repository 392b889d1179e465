"""From a validated configuration to a checked `Study`."""

from pathlib import Path

from dmlstudy.core import registry, source_code
from dmlstudy.core.addresses import mistake
from dmlstudy.core.names import known_names
from dmlstudy.plan import checks, recipes, training_checks
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.candidates import candidates, check_budgets
from dmlstudy.plan.recipes import RecipeError
from dmlstudy.plan.study import Study

# Answers about backbones, in the results folder.
MEMORY = ".backbones.json"


def plan(config, describe=None):
    """Check a validated configuration as a whole and return the `Study`.

    ``describe``: a `Describer` of backbones; by default one that remembers in the results folder.
    Raises RecipeError, with the path of keys, for anything that does not fit together.
    """
    describe = describe or Describer(Path(config["results_dir"]) / MEMORY)
    protocol, scale = config["protocol"], config["learning_rate_scale"]
    numbers = {key: protocol[key] for key in recipes.FROM_PROTOCOL}
    checks.check_learning_rate_scale(scale)

    entries = {name: dict(entry) for name, entry in config["experiments"].items()}
    complete = recipes.resolve(entries, numbers, scale, ("experiments",))
    checks.check_baseline(config["baseline"], complete)
    checks.check_published(config["published"], complete, protocol)
    experiments = _chosen(config["only"], complete)
    inherited = {name: recipes.inherited(name, entries) for name in experiments}
    planned = {}
    for name, entry in inherited.items():
        keys = ("experiments", name)
        checks.check_unsourced(entry, experiments[name], keys)
        if entry.get("selection"):
            planned[name] = candidates(entry, numbers, scale, keys)
            if not (protocol["selection"]["epochs"] or experiments[name]["epochs"]):
                raise RecipeError("needs epochs to train for", *keys, "selection")
    check_budgets(planned, ("experiments",), protocol["selection"]["epochs"])

    datasets = _datasets(config)
    checks.check_grouping(config)
    checks.check_substitutes(config["substitute_initializers"], config["initializers"])
    checks.check_classes(config, experiments, planned)
    initializers = _initializers(config, numbers)
    checks.check_initializers(config, initializers)
    start = _starter(config, initializers)
    experiments = {
        name: start(entry, "experiments", name, "initializer")
        for name, entry in experiments.items()
    }
    checks.check_selection_starts(experiments, planned, initializers)
    untrained = {}
    checks.check_other_initializers(config["untrained"])
    for name, entry in _untrained(config, numbers):
        if name in experiments or name in untrained:
            raise RecipeError(
                f"{entry['backbone']!r} would make a second row {name!r}; rename the experiment",
                *("untrained", "backbones"),
            )
        untrained[name] = start(entry, "untrained", "initializer")
    study = Study(
        config=config,
        entries=entries,
        inherited=inherited,
        experiments={**experiments, **untrained},
        untrained=list(untrained),
        candidates=planned,
        initializers=initializers,
        datasets=datasets,
        facts={},
        answers=recipes.complete_answers(
            config["evaluation"]["answers"], ("evaluation", "answers")
        ),
    )
    used = study.used_backbones()
    mentioned = {pair: None for pair in used}
    elsewhere = checks.mentioned_backbones(config)
    for name in elsewhere.values():
        # Whether a backbone exists does not depend on a size: it is asked for one only.
        if all(name != backbone for backbone, _ in mentioned):
            mentioned[name, protocol["image_size"]] = None
    facts = _facts(describe, mentioned)
    checks.check_backbones(study, facts)
    checks.check_mentioned_backbones(elsewhere, facts)
    study.facts = {pair: facts[pair] for pair in used}
    training_checks.check_features(study)
    checks.check_batchnorm(study)
    training_checks.check_trained_parts(study)
    checks.check_weights(study)
    return study


def _facts(describe, pairs):
    """{(backbone, image size): facts} of pairs; one question for each size."""
    found = {}
    for size in dict.fromkeys(size for _, size in pairs):
        names = [name for name, other in pairs if other == size]
        found |= {(name, size): one for name, one in describe(names, size).items()}
    return found


def _chosen(only, complete):
    """The complete entries that are to be run, in order."""
    for name in only or ():
        if name not in complete:
            known = known_names(name, complete)
            raise RecipeError(f"{name!r} is no experiment{known}", "only")
    return {name: entry for name, entry in complete.items() if only is None or name in only}


def _datasets(config):
    """{name: entry} of all data sets, checked one by one."""
    datasets = {config["dataset"]["name"]: config["dataset"]}
    for name, dataset in config["other_datasets"].items():
        if name in datasets:
            raise RecipeError(
                f"{name!r} is also the name of the study's data set", "other_datasets", name
            )
        if name == "study":
            raise RecipeError(
                "is what initializers call the study's own data set; use another name",
                *("other_datasets", name),
            )
        datasets[name] = {**dataset, "name": name}
    for name, dataset in datasets.items():
        keys = ("dataset",) if name == config["dataset"]["name"] else ("other_datasets", name)
        if sum(bool(dataset[key]) for key in ("source", "files", "drawn")) != 1:
            raise RecipeError("give exactly one of source:, files: and drawn:", *keys)
        if dataset["format"] not in registry.kinds("format"):
            known = known_names(dataset["format"], registry.kinds("format"))
            raise RecipeError(f"unknown format {dataset['format']!r}{known}", *keys, "format")
        if mistake(dataset["source"]):
            raise RecipeError(mistake(dataset["source"]), *keys, "source")
        checks.check_files(dataset, keys)
        if dataset["csv"] and "csv" not in source_code.parameters("format", dataset["format"]):
            raise RecipeError(f"format {dataset['format']} reads no CSV file", *keys, "csv")
    return datasets


def _initializers(config, numbers):
    """{name: entry}; the recipes of trained ones are complete."""
    scale, substitute = config["learning_rate_scale"], config["substitute_initializers"]
    found = {}
    for name, entry in config["initializers"].items():
        entry = dict(entry)
        keys = ("initializers", name)
        checks.check_weight_files(entry, keys)
        checks.check_initializer_keys(entry, keys)
        if entry["kind"] == "trained":
            if entry["recipe"] is None:
                raise RecipeError("is missing: a trained initializer needs one", *keys, "recipe")
            # The backbone is that of the run; `Study.initializer_entry` puts it in.
            raw = {**entry["recipe"], "backbone": None}
            start = raw.get("initializer")
            raw |= {} if start is None else {"initializer": substitute.get(start, start)}
            entry["recipe"] = recipes.complete(raw, numbers, scale, (*keys, "recipe"))
            for backbone in entry["backbones"]:
                checks.check_family(backbone, (*keys, "backbones", backbone))
            entry["backbones"] = {
                backbone: recipes.complete(
                    recipes.merged(raw, {**changes, "backbone": backbone}),
                    numbers,
                    scale,
                    (*keys, "backbones", backbone),
                )
                for backbone, changes in entry["backbones"].items()
            }
        found[name] = entry
    return found


def _starter(config, initializers):
    """A function that puts the initializer of an entry in place: substituted, and one that exists."""
    substitute = config["substitute_initializers"]

    def start(entry, *keys):
        name = substitute.get(entry["initializer"], entry["initializer"])
        if name not in initializers:
            known = known_names(name, initializers)
            raise RecipeError(f"unknown initializer {name!r}{known}", *keys)
        return {**entry, "initializer": name}

    return start


def _untrained(config, numbers):
    """(name, complete entry) of each row that is not trained."""
    untrained = config["untrained"]
    for backbone in untrained["backbones"]:
        start = untrained["other_initializers"].get(backbone, untrained["initializer"])
        start = config["substitute_initializers"].get(start, start)
        raw = {
            "backbone": backbone,
            "initializer": start,
            "head": {"kind": "none"},
            "loss": {"kind": "crossentropy"},
            "optimizer": {"kind": "sgd"},
            "augmentation": untrained["augmentation"],
            "epochs": 0,
        }
        name = f"{start}_{registry.backbone_file_name(backbone)}"
        yield name, recipes.complete(raw, numbers, {}, ("untrained",))
