"""What tables and pages say of a study and its experiments, generated from the configuration."""

from dmlstudy.plan import recipes

# Losses whose models answer with a softmax too.
WITH_SOFTMAX = ("crossentropy", "normalized_softmax")


def notes(study):
    """Sentences that every page must carry."""
    found = []
    if study.synthetic:
        found.append("All images are synthetic: drawn birds, not photographs.")
    duplicates = study.config["protocol"]["duplicates"]
    if duplicates != "keep":
        found.append(
            {
                "together": "Copies of photographs stand in one part of the split.",
                "drop": "Of each set of copies of a photograph, one is used; of copies in different "
                "classes, none.",
            }[duplicates]
        )
    if study.config["protocol"]["group_by"]:
        found.append("Groups of photographs that belong together stand in one part of the split.")
    scale = study.config["learning_rate_scale"]
    factors = [f"{name} × {factor:g}" for name, factor in scale.items() if factor != 1]
    if factors:
        found.append(f"Learning rates are the recipes' times a factor: {', '.join(factors)}.")
    return found


def details(study, name):
    """How an experiment differs from the one that it is like, generated from its entry."""
    if name in study.untrained:
        entry = study.experiments[name]
        return f"untrained: {entry['backbone']}, {_weights_label(study, entry)}"
    entry = dict(study.entries[name])
    if "initializer" in entry:
        entry["initializer"] = _label(study, study.experiments[name]["initializer"])
    changes = recipes.differences(entry)
    if name in study.candidates:
        changes += f"; selected: {recipes.worded(study.inherited[name]['selection'])}"
    if unsourced(study, name):
        changes += f"; without a source: {recipes.worded(unsourced(study, name))}"
    return f"like {entry['like']}: {changes}" if "like" in entry else changes


def _label(study, initializer):
    return study.initializers[initializer]["label"]


def _pretraining(study, entry):
    """What the configuration says of the weights that a complete entry starts from, or None.

    Random weights, and those that the study trains, are not what was said of the backbone's own.
    """
    if study.initializers[entry["initializer"]]["kind"] in ("published", "file"):
        return study.config["pretraining"].get(entry["backbone"])
    return None


def _weights_label(study, entry):
    known = _pretraining(study, entry)
    return known["label"] if known else _label(study, entry["initializer"])


def pretraining(study):
    """Rows of pretraining.csv: what is known of the weights that each row of the study starts from."""
    found = []
    for name, entry in study.experiments.items():
        known = _pretraining(study, entry)
        if known:
            found.append(
                {
                    "experiment": name,
                    "backbone": entry["backbone"],
                    "initializer": entry["initializer"],
                    "feature_dim": study.facts_of(entry)["feature_dim"],
                    "image_size": entry["image_size"],
                    **known,
                }
            )
    return found


def block(study, name):
    """The block of the study's table in which an experiment stands.

    A row without training belongs to the published study if one of its experiments starts from the same
    weights.
    """
    if name in study.inherited:
        return study.inherited[name]["block"]
    row = study.experiments[name]
    if _pretraining(study, row):
        return recipes.FOUNDATION
    start = (recipes.PUBLISHED, row["backbone"], study.config["untrained"]["initializer"])
    entries = (recipes.inherited(other, study.entries) for other in study.entries)
    found = ((one["block"], one.get("backbone"), one.get("initializer")) for one in entries)
    return recipes.PUBLISHED if start in found else recipes.OWN


def unsourced(study, name):
    """Keys whose values have neither a source nor a selection."""
    return study.inherited.get(name, {}).get("unsourced", [])


def parent(study, name):
    """The experiment that one is like, or None."""
    return study.entries.get(name, {}).get("like")


def description(study, name):
    """What is written down beside an experiment's results."""
    labels = {"block": block(study, name), "unsourced": unsourced(study, name)}
    # It holds for all seeds.
    recipe = study.known(name, study.run_recipe(name, None))
    recipe = {key: value for key, value in recipe.items() if key not in ("seed", "eval_every")}
    return {
        "experiment": name,
        "details": details(study, name),
        "like": parent(study, name),
        **(labels if labels != {"block": recipes.PUBLISHED, "unsourced": []} else {}),
        "recipe": {"initializer": study.experiments[name]["initializer"], **recipe},
    }


def unfitted(study):
    """What pages say of the features that are not fitted: [{experiment, backbone, test_images}]."""
    found = []
    for name in study.unfitted:
        entry = study.experiments[name]
        known = _pretraining(study, entry)
        found.append(
            {
                "experiment": name,
                "backbone": entry["backbone"],
                "test_images": known and known["test_images"],
            }
        )
    return found


def rows(study):
    """Names and words of all rows of the study's table, in order, block by block."""
    names = sorted(study.experiments, key=lambda name: recipes.BLOCKS.index(block(study, name)))
    return [
        {
            "experiment": name,
            "block": block(study, name),
            "details": details(study, name),
            "like": parent(study, name),
            "untrained": name in study.untrained,
            "trained": study.trained_of(name),
            "starts_from": [study.experiments[name][key] for key in ("backbone", "initializer")],
            "start_row": study.start_row(name),
        }
        for name in names
    ]


def beside(study, name):
    """The rows (see `rows`) of an experiment and of those that its page compares it with.

    These are the one that it is like, the baseline, the first one that has a softmax, and the features that
    it starts from.
    """
    every = rows(study)
    softmax = [
        row["experiment"]
        for row in every
        if not row["untrained"]
        and study.experiments[row["experiment"]]["loss"]["kind"] in WITH_SOFTMAX
    ]
    wanted = {
        name,
        parent(study, name),
        study.config["baseline"],
        study.start_row(name),
        *softmax[:1],
    }
    return [row for row in every if row["experiment"] in wanted]
