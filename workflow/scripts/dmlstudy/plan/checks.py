"""Values of a configuration that must fit each other. Each check raises RecipeError with the keys."""

from dmlstudy.core import registry
from dmlstudy.core.addresses import addresses, mistake
from dmlstudy.core.names import did_you_mean, known_names
from dmlstudy.plan.recipes import PIECES, RecipeError


def check_learning_rate_scale(scale):
    for name in scale:
        if name not in registry.REGISTRY["optimizer"]:
            known = known_names(name, registry.kinds("optimizer"))
            raise RecipeError(f"unknown optimizer{known}", "learning_rate_scale", name)


def check_baseline(baseline, experiments):
    if baseline not in experiments:
        known = known_names(baseline, experiments)
        raise RecipeError(f"{baseline!r} is no experiment{known}", "baseline")


def check_published(published, experiments, protocol):
    """Published figures must speak of experiments, and of keys, that exist."""
    if not published:
        return
    for key in published["protocol"]:
        if key not in protocol:
            raise RecipeError(
                f"is no key of protocol{did_you_mean(key, protocol)}", "published", "protocol", key
            )
    for position, figure in enumerate(published["figures"]):
        name, keys = figure["experiment"], ("published", "figures", position)
        if name not in experiments:
            known = known_names(name, experiments)
            raise RecipeError(f"{name!r} is no experiment{known}", *keys, "experiment")
        entry = experiments[name]
        known = {*entry, *(f"{piece}.{key}" for piece in PIECES for key in entry[piece])}
        for key in figure["recipe"]:
            part, _, parameter = key.partition(".")
            # A parameter of another kind of piece is a difference, not a mistake.
            if key not in known and not (parameter and part in PIECES):
                raise RecipeError(
                    f"is no key of a recipe{did_you_mean(key, known)}", *keys, "recipe", key
                )


def check_substitutes(substitutes, initializers):
    """Both the replaced initializer and its replacement must exist."""
    for name, other in substitutes.items():
        for one, what in ((name, "unknown initializer"), (other, f"unknown initializer {other!r}")):
            if one not in initializers:
                known = known_names(one, initializers)
                raise RecipeError(f"{what}{known}", "substitute_initializers", name)


def check_unsourced(entry, complete, keys):
    """Each key that is said to have no source must be one of the recipe's own values."""
    known = {*complete, *(f"{piece}.{key}" for piece in PIECES for key in complete[piece])}
    for key in entry.get("unsourced", []):
        if key not in known:
            raise RecipeError(
                f"names {key!r}, which is no key of the recipe{did_you_mean(key, known)}",
                *(*keys, "unsourced"),
            )
        if key in entry.get("selection", {}):
            raise RecipeError(f"names {key!r}, which is selected", *keys, "unsourced")


def check_files(dataset, keys):
    """Each file of a data set must have a place; checksums and sizes belong to the single files."""
    if not dataset["files"]:
        return
    for key in ("md5", "sha256", "bytes"):
        if dataset[key] is not None:
            raise RecipeError(
                "belongs to source:; with files:, set it to null and give each file its own",
                *(*keys, key),
            )
    for name, file in dataset["files"].items():
        if mistake(file["source"]):
            raise RecipeError(mistake(file["source"]), *keys, "files", name, "source")


def check_classes(config, experiments, planned):
    """Enough classes must be seen, and fill a batch; as far as their number is known before any job."""
    dataset, protocol = config["dataset"], config["protocol"]
    classes = dataset["drawn"]["classes"] if dataset["drawn"] else dataset["classes"]
    if classes is None:
        return
    if dataset["drawn"] and dataset["classes"] not in (None, classes):
        raise RecipeError(
            f"is {dataset['classes']}, but {classes} classes are drawn", "dataset", "classes"
        )
    if protocol["unseen_classes"] >= classes:
        raise RecipeError(
            f"is {protocol['unseen_classes']}, but the data set has {classes} classes; "
            "at least one must be seen",
            "protocol",
            "unseen_classes",
        )
    seen = classes - protocol["unseen_classes"]
    for name, entry in experiments.items():
        _check_batch("its recipe", entry, seen, ("experiments", name))
    trained = seen - max(1, round(protocol["selection"]["held_out_share"] * seen))
    for name, tried in planned.items():
        for candidate, one in tried.items():
            _check_batch(candidate, one["recipe"], trained, ("experiments", name, "selection"))


def _check_batch(name, entry, classes, keys):
    """A batch must not need more classes than the model is trained on. ``classes``: at most so many."""
    samples, batch = entry["samples_per_class"], entry["batch_size"]
    if samples and samples * classes < batch:
        raise RecipeError(
            f"{name} asks for {samples} samples per class, of which {classes} classes do not fill "
            f"a batch of {batch}; lower batch_size or raise samples_per_class",
            *keys,
        )


def check_grouping(config):
    """Groups are told by a column of a table or by a pattern, not by both."""
    dataset, group_by = config["dataset"], config["protocol"]["group_by"]
    if group_by is None:
        return
    given = [key for key, value in group_by.items() if value is not None]
    if len(given) != 1:
        raise RecipeError("needs either column or pattern", "protocol", "group_by")
    if given == ["column"] and dataset["format"] != "csv":
        raise RecipeError(
            f"needs a data set with a table (format csv), but dataset.format is {dataset['format']}; "
            "use pattern",
            *("protocol", "group_by", "column"),
        )


def check_initializer_keys(entry, keys):
    """A recipe of an initializer has no keys that only experiments have, and one start for all backbones."""
    recipes = [(("recipe",), entry["recipe"] or {}, ("backbone",))]
    for backbone, changes in entry["backbones"].items():
        recipes.append((("backbones", backbone), changes, ("backbone", "initializer")))
    for path, recipe, others in recipes:
        for key in ("like", "block", "selection", "unsourced", "backbone_trains", "eval_every"):
            if key in recipe:
                raise RecipeError("is a key of experiments only", *keys, *path, key)
        for key in others:
            if key in recipe:
                reason = {
                    "backbone": "must be left out: an initializer is trained with each run's backbone",
                    "initializer": "must be left out: all backbones start from the recipe's",
                }[key]
                raise RecipeError(reason, *keys, *path, key)


def check_initializers(config, initializers):
    """Trained initializers must start from one that exists, in no circle, on a data set that exists."""
    for name, entry in initializers.items():
        if entry["kind"] != "trained":
            continue
        start, passed = entry["recipe"]["initializer"], [name]
        while initializers.get(start, {}).get("kind") == "trained":
            if start in passed:
                raise RecipeError(
                    "starts from itself, in a circle", "initializers", name, "initializer"
                )
            passed.append(start)
            start = initializers[start]["recipe"]["initializer"]
        if start not in initializers:
            raise RecipeError(
                f"unknown initializer {start!r}{known_names(start, initializers)}",
                *("initializers", name, "recipe", "initializer"),
            )
        if entry["dataset"] not in ("study", *config["other_datasets"]):
            known = known_names(entry["dataset"], ("study", *config["other_datasets"]))
            raise RecipeError(
                f"unknown data set {entry['dataset']!r}{known}",
                *("initializers", name, "dataset"),
            )


def check_selection_starts(experiments, selected, initializers):
    """No candidate may start from weights that have seen the study's images.

    Such weights know the classes that a selection holds out.
    """
    for name in selected:
        start = experiments[name]["initializer"]
        while initializers[start]["kind"] == "trained":
            if initializers[start]["dataset"] == "study":
                raise RecipeError(
                    f"cannot be used: initializer {start!r} is trained on the study's own images, "
                    "so that held-out classes are not new to it. Select with one that is not, and "
                    "write the values into an entry that starts from it",
                    *("experiments", name, "selection"),
                )
            start = initializers[start]["recipe"]["initializer"]


def check_backbones(study, facts):
    """Each backbone that is used must exist and take images of the size that it gets.

    ``facts``: {(backbone, image size): of `backbones.Describer`}.
    """

    def check(entry, *keys):
        problem = facts[entry["backbone"], entry["image_size"]].get("problem")
        if problem:
            raise RecipeError(problem, *keys)

    for name, entry in study.experiments.items():
        untrained = name in study.untrained
        check(
            entry, *(("untrained", "backbones") if untrained else ("experiments", name, "backbone"))
        )
    for name, backbone in study.starts():
        if study.initializers[name]["kind"] == "trained":
            entry = study.initializer_entry(name, backbone)
            check(entry, "initializers", name, "recipe", "image_size")


def mentioned_backbones(config):
    """{path of keys: backbone} of all backbones of which the configuration says something.

    They need not be used.
    """
    found = {
        ("initializers", name, key, backbone): backbone
        for name, entry in config["initializers"].items()
        for key in ("weights", "backbones")
        for backbone in entry[key]
    }
    return found | {("pretraining", backbone): backbone for backbone in config["pretraining"]}


def check_mentioned_backbones(mentioned, facts):
    """A backbone of which the configuration says something must exist, whether it is used or not.

    A name that is written wrongly would be one that is not used: other weights would be taken.
    ``mentioned``: see `mentioned_backbones`; ``facts``: as for `check_backbones`.
    """
    problems = {name: one.get("problem", "") for (name, _), one in facts.items()}
    for keys, backbone in mentioned.items():
        if problems[backbone].startswith("unknown backbone"):
            raise RecipeError(problems[backbone], *keys)


def check_other_initializers(untrained):
    """Only a backbone that has a row without training can have another initializer there."""
    for backbone in untrained["other_initializers"]:
        if backbone not in untrained["backbones"]:
            raise RecipeError(
                f"{backbone!r} has no row without training"
                f"{known_names(backbone, untrained['backbones'])}; add it to untrained: backbones",
                *("untrained", "other_initializers", backbone),
            )


def check_family(backbone, keys):
    """A backbone, used or not, must be of a family that exists."""
    problem = registry.unknown_family(backbone)
    if problem:
        raise RecipeError(problem, *keys)


def check_batchnorm(study):
    """Only a backbone with BatchNorm can have it frozen."""

    def check(entry, *keys):
        backbone = entry["backbone"]
        if entry["frozen_batchnorm"] and not study.facts_of(entry)["batchnorm"]:
            raise RecipeError(
                f"is true, but {backbone} has no BatchNorm that could be frozen", *keys
            )

    for name, entry in study.experiments.items():
        check(entry, "experiments", name, "frozen_batchnorm")
        for tried in study.candidates.get(name, {}).values():
            check(tried["recipe"], "experiments", name, "selection", "frozen_batchnorm")
    for name, backbone in study.starts():
        if study.initializers[name]["kind"] == "trained":
            keys = ("initializers", name, "recipe", "frozen_batchnorm")
            check(study.initializer_entry(name, backbone), *keys)


def check_weight_files(initializer, keys):
    """Each file of an initializer must be of use, and verified if it comes from an address."""
    kind = initializer["kind"]
    for backbone, file in initializer["weights"].items():
        here = (*keys, "weights", backbone)
        check_family(backbone, here)
        if kind not in ("published", "file"):
            raise RecipeError(
                f"is not used: only published and file initializers have files, this one is {kind}",
                *here,
            )
        source, on_hub = file["source"], registry.on_hub(backbone)
        if mistake(source):
            raise RecipeError(mistake(source), *here)
        if kind == "file" and source is None:
            raise RecipeError("is missing", *here, "source")
        if file["revision"] and not (kind == "published" and on_hub):
            raise RecipeError("only published weights of timm have one", *here, "revision")
        if kind == "published" and not on_hub and file["sha256"]:
            raise RecipeError(
                "is not used: torchvision states the hash of its own weights; leave it out, or use "
                "an initializer of kind file",
                *here,
                "sha256",
            )
        if needs_checksum(kind, backbone) and addresses(source) and not file["sha256"]:
            raise RecipeError(
                "is missing: a file from an address must be verified", *here, "sha256"
            )


def needs_checksum(kind, backbone):
    """Whether a file from another place can only be verified by the configuration's SHA-256.

    torchvision states the hash of its own weights.
    """
    return kind == "file" or registry.on_hub(backbone)


def check_weights(study):
    """The weights of each row must exist."""
    for (name, backbone), rows in study.starts().items():
        entry = study.initializers[name]
        known = entry["weights"].get(backbone)
        if entry["kind"] == "file" and known is None:
            raise RecipeError(
                f"names no file for {backbone}, which {rows[0]} starts from",
                *("initializers", name, "weights"),
            )
        facts = (one for (known, _), one in study.facts.items() if known == backbone)
        unpublished = next(facts)["unpublished"]
        if entry["kind"] == "published" and unpublished and not (known and known["source"]):
            keys = ("untrained",) if rows[0] in study.untrained else ("experiments", rows[0])
            raise RecipeError(
                f"is {name!r}, but {unpublished}; use an initializer of another kind",
                *(*keys, "initializer"),
            )
