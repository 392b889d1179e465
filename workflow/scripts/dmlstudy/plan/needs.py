"""What the trainings of a study need of a data set that is not listed yet."""

from dmlstudy.plan.recipes import origin

# Losses that learn nothing where no class has two images. The others compare images with classes, or two
# views of an image.
PAIRS = ("epshn", "multi_similarity", "supcon")


def needs(study, dataset):
    """What each training on a data set needs, as plain values, without repetitions.

    A list of {"name", "keys", "samples_per_class", "batch_size", "pairs", "held_out_share"}: ``keys``
    lead to the place in the configuration that decides it, ``held_out_share`` is that of a candidate, else
    None. `data.needs.refuse_unmet` checks them.
    """
    found = []
    if dataset == study.name:
        for name in study.experiments:
            if name in study.candidates or name in study.untrained:
                continue
            entry = study.experiments[name]
            found.append(_need(name, entry, _keys(study, name, entry)))
        share = study.config["protocol"]["selection"]["held_out_share"]
        for name, tried in study.candidates.items():
            for one in tried.values():
                keys = ("experiments", name, "selection")
                need = _need(name, one["recipe"], keys, share)
                if need not in found:
                    found.append(need)
    for name, backbone in study.starts():
        initializer = study.initializers[name]
        trained_on = study.name if initializer["dataset"] == "study" else initializer["dataset"]
        if initializer["kind"] == "trained" and trained_on == dataset:
            entry = study.initializer_entry(name, backbone)
            found.append(_need(f"initializer {name}", entry, ("initializers", name, "recipe")))
    return [need for need in found if need]


def _need(name, entry, keys, held_out_share=None):
    if entry["epochs"] == 0 and held_out_share is None:
        return None
    samples = entry["samples_per_class"]
    return {
        "name": name,
        "keys": list(keys),
        "samples_per_class": samples,
        "batch_size": entry["batch_size"],
        # A sampler repeats images of classes that have too few, each cropped in its own way.
        "pairs": entry["loss"]["kind"] in PAIRS and not samples,
        "held_out_share": held_out_share,
    }


def _keys(study, name, entry):
    if not entry["samples_per_class"]:
        return ("experiments", name)
    return origin(name, ("samples_per_class",), study.entries)
