"""Which files say what it cost to make what runs start from: a verdict counts it as part of their training."""


def start_costs(files):
    """{experiment: {"CLASS_SET SEED": paths}} of a `Layout`, of runs where there are any.

    Those of initializers that are trained on the study's own images, which train again with new classes, and
    of stored features.
    """
    study, found = files.study, {}
    for name, entry in study.experiments.items():
        for class_set in study.class_sets:
            for seed in study.seeds:
                paths = _of_run(files, entry, class_set, seed)
                if paths:
                    found.setdefault(name, {})[f"{class_set} {seed}"] = paths
    return found


def start_cost_files(files):
    """All of these files, each once, sorted."""
    runs = (paths for of_runs in start_costs(files).values() for paths in of_runs.values())
    return sorted({path for paths in runs for path in paths})


def _of_run(files, entry, class_set, seed):
    study, paths = files.study, []
    start, backbone = entry["initializer"], entry["backbone"]
    while study.initializers[start]["kind"] == "trained":
        if study.initializers[start]["dataset"] in ("study", study.name):
            weights = files.weights_name(start, backbone, class_set, seed)
            paths.append(f"{files.results}/initializers/{weights}_cost.json")
        start = study.initializer_entry(start, backbone)["initializer"]
    if not entry["backbone_trains"]:
        features = files.feature_set(entry, class_set, seed)
        paths.append(f"{files.results}/features/{features}/cost.json")
    return paths
