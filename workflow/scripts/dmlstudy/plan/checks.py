"""Values of a configuration that must fit each other. Each check raises RecipeError with the keys."""

from dmlstudy.plan.recipes import PIECES, RecipeError


def check_seeds(protocol):
    if len(set(protocol["seeds"])) != len(protocol["seeds"]):
        raise RecipeError("holds a seed twice", "protocol", "seeds")


def check_baseline(baseline, experiments):
    if baseline not in experiments:
        known = ", ".join(experiments)
        raise RecipeError(f"{baseline!r} is no experiment; known: {known}", "baseline")


def check_unsourced(entry, complete, keys):
    """Each key that is said to have no source must be one of the recipe's own values."""
    known = {*complete, *(f"{piece}.{key}" for piece in PIECES for key in complete[piece])}
    for key in entry.get("unsourced", []):
        if key not in known:
            raise RecipeError(f"names {key!r}, which is no key of the recipe", *keys, "unsourced")
        if key in entry.get("selection", {}):
            raise RecipeError(f"names {key!r}, which is selected", *keys, "unsourced")


def check_classes(config, experiments, planned):
    """Enough classes must be seen, and fill a batch; as far as their number is known before any job."""
    dataset, protocol = config["dataset"], config["protocol"]
    classes = dataset["drawn"]["classes"] if dataset["drawn"] else dataset["classes"]
    if classes is None:
        return
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
                f"unknown initializer {start!r}; known: {', '.join(initializers)}",
                *("initializers", name, "recipe", "initializer"),
            )
        if entry["dataset"] not in ("study", *config["other_datasets"]):
            known = ", ".join(("study", *config["other_datasets"]))
            raise RecipeError(
                f"unknown data set {entry['dataset']!r}; known: {known}",
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
