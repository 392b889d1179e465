"""What a study does not show: sentences that follow from what was run."""

import json
import re

from dmlstudy.pages.results.kept import TUNING
from dmlstudy.pages.results.phrases import code, images, joined, percent
from dmlstudy.pages.results.words import in_words

# Keys of a recipe whose change is a limit of its own, with the words for it.
KEYS = {
    "epochs": "epochs are {here} in place of {published}",
    "image_size": "images have {here} pixels a side in place of {published}",
    "backbone": "the network is {here} in place of {published}",
    "initializer": "networks start from {here} in place of {published}",
}
# Labels of published starting weights, in full: a study may have other weights of the same data.
PUBLISHED = {"ImageNet": "torchvision's weights of ImageNet"}


def changed(study, key):
    """(published values, values here) of a changed key over the trained experiments, as texts."""
    rows = [row for name in study.trained for row in study.entry(name)["changes"] if row[0] == key]
    before, here = (list(dict.fromkeys(str(row[at]) for row in rows)) for at in (1, 2))
    return before, here


def rising(study):
    """Numbers of curves that are highest at their last epoch, and of all curves of trainings."""
    curves = study.tables["curves"]
    curves = curves[curves["experiment"].isin(study.trained)].dropna(subset=["test_accuracy"])
    found = [
        rows.sort_values("epoch")["test_accuracy"].tolist()
        for _, rows in curves.groupby(["experiment", "seed", "class_set"])
    ]
    found = [values for values in found if len(values) > 1]
    return sum(values[-1] > max(values[:-1]) for values in found), len(found)


def ends(study):
    """A sentence for each selected value that is the smallest or the largest of those tried."""
    if TUNING not in study.tables:
        return []
    found = []
    for name, rows in study.tables[TUNING].groupby("experiment", sort=False):
        for key, value in study.entry(name)["selected"].items():
            tried = {values_of(candidate).get(key) for candidate in rows["values"]}
            if not all(isinstance(one, (int, float)) for one in (value, *tried)) or len(tried) < 2:
                continue
            if value in (min(tried), max(tried)):
                end = "smallest" if value == min(tried) else "largest"
                found.append(
                    f"The selected {in_words(key)} of {code(name)}, "
                    f"{value:g}, is the {end} of {len(tried)} tried. One beyond it may be better."
                )
    return found


def values_of(candidate):
    """The values in a candidate's name, ``loss.scale=32+optimizer.lr=0.01``; numbers as numbers.

    `candidates.candidate_name` writes it.
    """
    found = {}
    for part in re.split(r"\+(?=[a-z_.]+=)", candidate):
        key, _, value = part.partition("=")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def limits(study):
    """What cannot be concluded from a study, a sentence each."""
    data = study.about["dataset"]
    found = []
    if study.drawn:
        found.append("The images are drawn by a program. They say nothing about photographs.")
    if study.heads_only:
        found.append(
            "No network was trained, only heads on frozen features. It does not say what training the "
            "network gains, or costs."
        )
    if len(study.seeds) == 1:
        found.append(
            f"There is one seed ({study.seeds[0]}), so every difference is one between these two "
            "trained models, not between two methods."
        )
    if data["unseen_draws"] == 1:
        found.append(
            f"One choice of {data['unseen_classes']} unseen classes was tried. Intervals say how much "
            "other classes of this kind may differ, but no other choice was trained."
        )
    if not data["published"]:
        found.append(f"The data set is {data['name']}. Published figures are for another one.")
    words = []
    for key, template in KEYS.items():
        before, here = changed(study, key)
        if before:
            before = [PUBLISHED.get(one, one) for one in before]
            words.append(template.format(published=joined(before, "or"), here=joined(here, "or")))
    if words:
        found.append(
            f"It is not the published protocol: {'; '.join(words)}. A longer training, larger "
            "images or other weights may change the order of the rows."
        )
    up, all_ = rising(study)
    if up:
        found.append(
            f"In {up} of {all_} trainings the accuracy was highest at the last epoch. These may not "
            "have reached their end."
        )
    selected = [name for name in study.trained if study.entry(name)["selected"]]
    if selected and len(selected) < len(study.trained):
        rest = [code(name) for name in study.trained if name not in selected]
        found.append(
            f"Values were selected for {len(selected)} of {len(study.trained)} experiments only; "
            f"those of {joined(rest)} were not."
        )
    found += ends(study)
    if not selected:
        found.append("Learning rates were not selected, so a loss may have had a bad one.")
    gone, every = study.about["missing"], study.about["published_experiments"]
    if gone:
        found.append(f"{len(gone)} of the {every} published experiments have no counterpart here.")
    verdicts = [row["published_verdict"] for row in study.rows.values()]
    judged = {word: verdicts.count(word) for word in ("holds", "does not hold", "cannot tell")}
    if any(judged.values()):
        found.append(
            f"Of the published accuracies, {judged['holds']} hold, {judged['does not hold']} do not "
            f"hold, and {judged['cannot tell']} cannot be told."
        )
    else:
        found.append("Published figures cannot be judged by it.")
    unseen = data["unseen_classes"] / data["classes"]
    found.append(
        f"Unseen classes are {percent(unseen)} of all and of the same kind as the others. Whether "
        f"{images(study)} of something else behave alike was not tried."
    )
    return found
