"""What a study will train and embed, and how long that takes at measured rates. No torch."""

from typing import NamedTuple

from dmlstudy.plan.recipe import Recipe
from dmlstudy.plan.study import ALL_CLASSES


class Job(NamedTuple):
    """A training to come: ``trained`` and ``embedded`` count images, over all its epochs.

    ``compared``: pairs of a query and an image of its gallery, likewise. ``name``: of an experiment or an initializer; ``recipe``: as its program gets it.
    """

    kind: str
    name: str
    class_set: str
    recipe: Recipe
    trained: int
    embedded: int
    compared: int


# What of a recipe decides how long a step takes; numbers such as learning rates do not.
DECIDING = ("backbone", "frozen_batchnorm", "batch_size", "samples_per_class", "image_size", "precision", "device")  # fmt: skip


def step_of(recipe):
    """What trainings share whose steps take equally long, as a hashable key."""
    kinds = tuple(
        (part, key, value)
        for part in ("head", "loss", "augmentation", "optimizer")
        for key, value in getattr(recipe, part).items()
        if isinstance(value, str)
    )
    return (*((key, getattr(recipe, key)) for key in DECIDING), *kinds)


def runs(study, images):
    """The trainings of a checked study, of which data sets have ``images`` ({name: number}).

    Initializers first, then candidates of selections, then runs. Numbers of images are reckoned from
    shares, as if all classes were equally large.
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
        pictures = count(dataset, "train", class_set)
        jobs.append(
            # Checked before and after.
            Job(
                "initializer",
                f"{name} ({backbone})",
                class_set,
                recipe,
                recipe.epochs * pictures,
                2 * pictures,
                2 * pictures**2,
            )
        )
    selection = protocol["selection"]
    for name in study.candidates:
        for candidate in study.candidates[name]:
            recipe = study.candidate_recipe(name, candidate)
            seen = count(study.name, "train", study.limited[0])
            held_out = round(seen * selection["held_out_share"])
            pictures = round((seen - held_out) * (1 - selection["validation_share"]))
            compared = (seen - pictures) * (pictures + held_out)
            trained = recipe.epochs * pictures
            jobs.append(
                Job("candidate", name, ALL_CLASSES, recipe, trained, seen + held_out, compared)
            )
    for name in study.experiments:
        for seed in study.seeds:
            # A selected value hardly changes how long a step takes.
            recipe = study.run_recipe(name, seed)
            for class_set in study.class_sets:
                pictures, queries = (count(study.name, part, class_set) for part in parts)
                gallery, all_queries = (count(study.name, part, ALL_CLASSES) for part in parts)
                points = max(0, recipe.epochs - 1) // recipe.eval_every
                jobs.append(
                    Job(
                        "run",
                        name,
                        class_set,
                        recipe,
                        recipe.epochs * pictures,
                        points * (pictures + queries) + gallery + all_queries,
                        # The last weights' point of the curve, too, is of the classes that are known.
                        (points + 1) * pictures * queries,
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
