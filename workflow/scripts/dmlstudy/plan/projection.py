"""How many images a study trains and embeds, and how long that takes at measured rates. No torch."""

import contextlib
from pathlib import Path
from typing import NamedTuple

from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError, read_json, write_json
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.study import ALL_CLASSES

# What `make estimate` measured in this working directory: `make watch` begins with it.
RATES = Path(".snakemake", "dml-estimate.json")


class Job(NamedTuple):
    """A planned training. All counts are over all its epochs.

    ``name``: of an experiment or an initializer; ``trained``, ``embedded``: numbers of images;
    ``compared``: number of pairs of a query and a gallery image.
    """

    kind: str
    name: str
    class_set: str
    recipe: Recipe
    trained: int
    embedded: int
    compared: int


# Fields of a recipe that decide how long a step takes. Numbers such as learning rates do not.
DECIDING = ("backbone", "backbone_trains", "frozen_batchnorm", "batch_size", "samples_per_class", "image_size", "precision", "device")  # fmt: skip


def step_of(recipe):
    """Hashable key that is equal for recipes whose steps take equally long."""
    kinds = tuple(
        (part, key, value)
        for part in ("head", "loss", "augmentation", "optimizer")
        for key, value in getattr(recipe, part).items()
        if isinstance(value, str)
    )
    kinds += tuple(recipe.trained_parts.items())
    return (*((key, getattr(recipe, key)) for key in DECIDING), *kinds)


def runs(study, images):
    """The trainings of a checked study: initializers, stored features, candidates of selections, runs.

    ``images``: {data set: number of images}. Numbers of images follow from shares, as if all classes
    were equally large.
    """
    protocol = study.config["protocol"]
    parts = {"train": 1 - protocol["test_share"], "test": protocol["test_share"]}  # fmt: skip

    def count(dataset, part, class_set):
        classes = _classes(study, dataset)
        unseen = study.class_sets_of(dataset).get(class_set, {"unseen": 0})["unseen"]
        share = 1 - unseen / classes if classes else 1
        return round(images[dataset] * parts[part] * share)

    jobs = []
    for name, backbone, class_set, seed in _initializers(study):
        entry = study.initializers[name]
        dataset = study.name if entry["dataset"] == "study" else entry["dataset"]
        recipe = study.initializer_recipe(name, backbone, seed)
        trained_images = count(dataset, "train", class_set)
        jobs.append(
            # Its features are checked before and after.
            Job(
                "initializer",
                f"{name} ({backbone})",
                class_set,
                recipe,
                recipe.epochs * trained_images,
                2 * trained_images,
                2 * trained_images**2,
            )
        )
    for name, (entry, class_set, seed) in Layout("", study, by_digest=str).feature_sets().items():
        recipe = study.recipe_of(entry, seed, backbone_trains=True, epochs=0)
        jobs.append(Job("features", name, class_set, recipe, 0, images[study.name], 0))
    selection = protocol["selection"]
    for name in study.candidates:
        for candidate in study.candidates[name]:
            recipe = study.candidate_recipe(name, candidate)
            seen = count(study.name, "train", study.limited[0])
            held_out = round(seen * selection["held_out_share"])
            trained_images = round((seen - held_out) * (1 - selection["validation_share"]))
            compared = (seen - trained_images) * (trained_images + held_out)
            trained = recipe.epochs * trained_images
            jobs.append(
                Job("candidate", name, ALL_CLASSES, recipe, trained, seen + held_out, compared)
            )
    for name in study.experiments:
        for seed in study.seeds:
            # A selected value hardly changes how long a step takes.
            recipe = study.run_recipe(name, seed)
            for class_set in study.class_sets:
                trained_images, queries = (count(study.name, part, class_set) for part in parts)
                gallery, all_queries = (count(study.name, part, ALL_CLASSES) for part in parts)
                points = max(0, recipe.epochs - 1) // recipe.eval_every
                jobs.append(
                    Job(
                        "run",
                        name,
                        class_set,
                        recipe,
                        recipe.epochs * trained_images,
                        points * (trained_images + queries) + gallery + all_queries,
                        # The last point of the curve is also measured on the seen classes only.
                        (points + 1) * trained_images * queries,
                    )
                )
    return jobs


def _classes(study, dataset):
    entry = study.datasets[dataset]
    return entry["drawn"]["classes"] if entry["drawn"] else entry["classes"]


def _initializers(study):
    """(initializer, backbone, class set, seed) of each initializer that has to be trained."""
    found = {}

    def add(name, backbone, class_set, seed):
        entry = study.initializers[name]
        if entry["kind"] != "trained":
            return
        class_set = class_set if entry["dataset"] == "study" else ALL_CLASSES
        seed = seed if entry["seed"] is None else entry["seed"]
        add(study.initializer_entry(name, backbone)["initializer"], backbone, class_set, seed)
        found[name, backbone, class_set, seed] = True

    for recipe in study.experiments.values():
        for seed in study.seeds:
            for class_set in study.class_sets:
                add(recipe["initializer"], recipe["backbone"], class_set, seed)
    return list(found)


def seconds(job, rates):
    """(training, evaluation) seconds of a job.

    ``rates``: {step: (trained images, embedded images, compared pairs per second)}.
    """
    trained, embedded, compared = rates[step_of(job.recipe)]
    return job.trained / trained, job.embedded / embedded + job.compared / compared


def step_text(recipe):
    """`step_of` as text, for files."""
    return canonical_json(step_of(recipe))


def store_rates(rates, start):
    """Keep measured rates for `make watch`, beside those of other steps.

    ``rates``: see `seconds`; ``start``: seconds to start a job. Where they cannot be written, `make watch` has
    none.
    """
    try:
        steps = dict(read_json(RATES)["steps"])
    except (OSError, ValueError, LookupError, TypeError):
        steps = {}
    steps |= {canonical_json(step): list(found) for step, found in rates.items()}
    with contextlib.suppress(OSError, StudyError):
        write_json(RATES, {"start": start, "steps": steps})
