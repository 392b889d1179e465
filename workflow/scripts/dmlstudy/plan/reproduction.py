"""Which experiments can be compared with the published study, and what stands in the way."""

from dmlstudy.core.canonical import canonical
from dmlstudy.plan import recipes
from dmlstudy.plan.identity import PUBLISHED_SPLIT, grouped_split, origin
from dmlstudy.plan.study import TRAINED_BY

# Keys of a complete recipe that must be the published ones.
COMPARED = ("initializer", *TRAINED_BY)


def reproduction(study, published):
    """What can be compared with the published study: {"obstacle", "matches"}, plain values.

    ``published``: content of published_recipes.yaml. ``obstacle``: why nothing can be compared, or
    empty. ``matches``: {published experiment: {"experiment": ours with the recipe that was run, or
    None, "why": what differs, "epochs": how many were meant to be run}}. A configuration with
    `published` figures of its own is compared with these instead: see `literature`.
    """
    if study.config["published"]:
        return literature(study)
    defaults = {"image_size": published["protocol"]["image_size"], **published["defaults"]}
    recipes_run = recipes.resolve(published["experiments"], defaults)
    obstacle = _obstacle(study, published)
    # If no experiment has the published size, that is the obstacle, and no difference of a recipe.
    keys = COMPARED if obstacle else (*COMPARED, "image_size")
    ours = {
        name: _comparable(entry, keys)
        for name, entry in study.experiments.items()
        # Selected values are not known yet, and they were not published.
        if name not in study.candidates
    }
    matches = {}
    for name, entry in recipes_run.items():
        wanted = _comparable(entry, keys)
        # Its own name first: two experiments may have one recipe.
        order = sorted(ours, key=lambda other, name=name: other != name)
        found = next((other for other in order if ours[other] == wanted), None)
        why = ""
        if found is None and name in study.candidates:
            why = "its values were selected here"
        elif found is None and name not in ours:
            why = "the experiment was not run here"
        elif found is None:
            differing = recipes.differing(wanted, ours[name])
            why = "another recipe was run: " + ", ".join(
                f"{key} {then} (here {now})" for key, then, now in differing
            )
        matches[name] = {"experiment": found, "why": why, "epochs": entry["epochs"]}
    return {"obstacle": obstacle, "matches": matches}


def literature(study):
    """What can be compared with the configuration's own `published` figures, as plain values.

    {"obstacle": why nothing can be compared, or empty, "matches": {}, "size": [gallery images, queries]
    or None, "figures": [{"experiment", "metric", "value", "tolerance", "source", "differs", "why": what
    differs from the recipe that the source states, or empty}]}.
    """
    published = study.config["published"]
    figures = []
    for figure in published["figures"]:
        name, stated = figure["experiment"], figure["recipe"]
        if name not in study.experiments:
            why = "the experiment was not run here"
        elif {key.partition(".")[0] for key in stated} & set(study.selected(name)):
            why = "its values were selected here"
        else:
            entry = study.experiments[name]
            here = {key: _at(entry, key) for key in stated}
            words = [
                f"{key} {value} (here {here[key]})"
                for key, value in stated.items()
                if value != here[key]
            ]
            why = f"another recipe was run: {', '.join(words)}" if words else ""
        shown = ("experiment", "metric", "value", "tolerance", "source", "differs")
        figures.append({**{key: figure[key] for key in shown}, "why": why})
    facts = {"dataset": {"md5": published["md5"]}, "protocol": published["protocol"]}
    return {
        "obstacle": _obstacle(study, facts),
        "matches": {},
        "size": published["size"],
        "figures": figures,
    }


def _at(entry, key):
    """The value of a dotted key of a complete entry; None if its piece has no such parameter."""
    part, _, parameter = key.partition(".")
    return entry[part].get(parameter) if parameter else entry[part]


def _comparable(entry, keys):
    return canonical({key: entry[key] for key in keys})


def _obstacle(study, published):
    protocol = study.config["protocol"]
    # A folder of one's own inherits the checksum of the published archive, which it is not.
    md5 = published["dataset"]["md5"]
    if md5 and (study.synthetic or origin(study, study.name) != f"md5:{md5}"):
        return f"the data set is {study.name}, not the published archive"
    sizes = {entry["image_size"] for entry in study.experiments.values()}
    for key, value in published["protocol"].items():
        # Of image sizes, one experiment with the published one is enough to compare that one.
        if protocol[key] != value and not (key == "image_size" and value in sizes):
            return f"protocol.{key} is {protocol[key]}, it was {value}"
    for key, value in grouped_split(study).items():
        return f"protocol.{key} is {value}, it was {PUBLISHED_SPLIT[key]}"
    return ""
