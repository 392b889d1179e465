"""The answers: sentences with figures for each question of the study, from a few templates.

A question's function returns a list of sentences. The first one answers it: pages show it first. Sentences
speak of the study's `leading` experiment, and count how many others agree. If an interval contains 0 (0.5
for rejection, which is what guessing gives), the sentence says so.
"""

from dmlstudy.evaluate.deductions import (
    accuracy_phrase,
    hundredths,
    interval_text,
    share,
    shown,
)
from dmlstudy.pages.results.phrases import (
    code,
    duration,
    images,
    joined,
    number_of,
    percent,
    points,
    whole,
    with_interval,
)
from dmlstudy.pages.results.study import UNSEEN, UNTRAINED

CONTAINS_ZERO = "the interval contains 0"
# Enrolling enough: this share of the accuracy that all photographs give.
ENOUGH = 0.9
CHANCE = 0.5


def counts(rows):
    """(better, worse, not shown): how many differences are on which side."""
    found = [row for row in rows if shown(row)]
    better = sum(row["difference"] > 0 for row in found)
    return better, len(found) - better, len(rows) - len(found)


def counted(rows, models, than):
    """How many of several models are better or worse, as a sentence."""
    better, worse, open_ = counts(rows)
    return (
        f"Of {len(rows)} {models}, {better} {_be(better)} better than {than}, {worse} "
        f"{_be(worse)} worse, and for {open_} no difference is shown."
    )


def _be(number):
    return "is" if number == 1 else "are"


def verdict(row, subject, other):
    """Whether a difference is shown, as a short sentence."""
    if not shown(row):
        return f"No difference is shown: {CONTAINS_ZERO}"
    word = "better" if row["difference"] > 0 else "worse"
    return f"{'Yes' if word == 'better' else 'No'}: {subject} is {word} than {other}"


def classifies(study):
    """Does metric learning classify as well as a classifier?"""
    name, classifier = study.leading, study.classifier
    row = study.difference(name, "classifier") if classifier else None
    # A foundation model is compared with nothing that starts from other weights.
    if row is None or name == classifier:
        return ["This study has no pair of a metric loss and a classical classifier to compare."]
    own, softmax = (
        study.metric(name, "precision_at_1"),
        study.metric(classifier, "softmax_accuracy"),
    )
    start = verdict(row, code(name), "the softmax of the classifier")
    text = [
        f"{start}.",
        f"Precision@1 of {code(name)} is {share(own)}, the accuracy of the softmax of "
        f"{code(classifier)} {share(softmax)} ({accuracy_phrase(row)}).",
    ]
    if not shown(row):
        text.insert(1, "That is not proof that both are equal.")
    others = [study.difference(other, "classifier") for other in study.metric_models]
    others = [one for one in others if one]
    if len(others) > 1:
        text.append(counted(others, "models with a metric loss", "that softmax"))
    features = study.metric(classifier, "precision_at_1")
    text.append(f"The nearest neighbour in the classifier's own features has {share(features)}.")
    return text


def added_classes(study):
    """What do added classes cost?"""
    name, unseen = study.leading, study.about["dataset"]["unseen_classes"]
    if name in study.untrained:
        named = study.metric(name, "all_classes_precision_at_1_unseen_classes")
        return [
            "Nothing: these features were not trained, so no class is new to them.",
            f"Of the images of the {unseen} classes that others were not trained on, they name {share(named)}.",
        ]
    drop = study.metric(name, "precision_drop_unseen_classes")
    limited = study.metric(name, UNSEEN)
    full = study.metric(name, "all_classes_precision_at_1_unseen_classes")
    start = f"Adding {unseen} classes without training costs {points(drop)} of precision@1 on them"
    if drop["low"] <= 0 <= drop["high"]:
        start = (
            f"No cost of adding {unseen} classes without training is shown: the drop on them is "
            f"{points(drop)}, and {CONTAINS_ZERO}"
        )
    elif drop["high"] < 0:
        start = (
            f"Adding {unseen} classes without training costs nothing: the model that was not trained "
            f"on them is better by {points(_negated(drop))}"
        )
    text = [
        f"{start}.",
        f"Of the images of these classes, {code(name)} names {share(full)} if it was trained on them, "
        f"{share(limited)} if it was not.",
    ]
    drops = {
        other: study.metric(other, "precision_drop_unseen_classes")["value"]
        for other in study.trained
    }
    if len(drops) > 1:
        least, most = min(drops, key=drops.get), max(drops, key=drops.get)
        text.append(
            f"Over {len(drops)} trained experiments, the drop lies between "
            f"{hundredths(drops[least])} points ({code(least)}) and {hundredths(drops[most])} points "
            f"({code(most)})."
        )
    if study.classifier:
        text.append("A softmax cannot answer with a class that it was not trained on.")
    return text


def _negated(one):
    return {"value": -one["value"], "low": -one["high"], "high": -one["low"]}


def enough(curve):
    """The first point of an enrolment curve (see `Study.enrolment`) with `ENOUGH` of the last one's accuracy."""
    return next(one for one in curve if one["value"] >= ENOUGH * curve[-1]["value"])


def enrolled(study):
    """How many photographs must be enrolled?"""
    name = study.leading
    curve = [one for one in study.enrolment(name) if one["images"] != "0"]
    if not curve:
        return ["This study has no enrolment curve."]
    final, first = curve[-1], curve[0]
    few = enough(curve)
    middle = [one for one in curve[1:-1] if one["images"] == "5"] or curve[1:-1][:1]
    parts = [
        f"with {'all' if one is final else one['images']}, {with_interval(one)}"
        for one in (*middle, final)
    ]
    if few is final:
        reached = (
            f"All of them ({_of_a_class(study)}): no smaller number gives {ENOUGH * 100:.0f} % of the "
            "accuracy with all."
        )
    else:
        reached = (
            f"{few['images']} of each unseen class: the smallest number tried that gives "
            f"{ENOUGH * 100:.0f} % of the accuracy with all."
        )
    return [
        reached,
        f"With {first['images']} of the {images(study)} of each unseen class enrolled, {code(name)} "
        f"names {with_interval(first)} of the test images of these classes; {joined(parts)}.",
    ]


def _of_a_class(study):
    """How many images of a class the gallery has, on average."""
    data = study.about["dataset"]
    return f"about {data['gallery'] / data['classes']:.0f} of a class"


def knows_unknown(study):
    """Does it know what it does not know?"""
    name = study.leading
    found = study.rejection(name)
    if found is None:
        return ["This study has no figures of rejection."]
    auroc = f"{found['value']:.3f}"
    guessing = f"where guessing gives {CHANCE}"
    if found["low"] != found["low"]:
        start = f"Without an interval over one run, only the mean: an AUROC of {auroc}, {guessing}"
    else:
        auroc += f" [{found['low']:.3f}, {found['high']:.3f}]"
        if found["low"] <= CHANCE <= found["high"]:
            start = f"Not shown: an AUROC of {auroc}; the interval contains {CHANCE}, which guessing gives"
        elif found["low"] > CHANCE:
            start = f"Partly: an AUROC of {auroc}, {guessing}"
        else:
            start = f"No, it is worse than guessing: an AUROC of {auroc}, {guessing}"
    return [
        f"{start}.",
        f"The AUROC says how well the similarity to the nearest known image separates images of unseen classes "
        f"from others ({code(name)}, before any unseen class is enrolled). At the threshold that accepts 95 % "
        f"of the known, {percent(found['false_positives'])} of the unknown are accepted as well.",
    ]


def time_spent(study):
    """What does it cost in time?"""
    costs = study.tables["costs"]
    trained = costs[costs["experiment"].isin(study.trained)]
    name = study.leading
    if name not in study.trained:
        return ["Nothing was trained."]
    devices = joined(list(dict.fromkeys(str(one) for one in trained["device"])))
    threads = joined([str(one) for one in study.recipe_values("compute_threads")], "or")
    where = f"{devices}, {number_of(threads, 'thread')} a job"
    text = [
        f"Training {code(name)} on all classes took {duration(study.train_seconds(name))} "
        f"({number_of(study.entry(name)['recipe']['epochs'], 'epoch')}; {where}).",
        f"All {len(trained)} trainings took {duration(trained['train_seconds'].sum())} together.",
    ]
    if study.about["selection_seconds"]:
        text.append(f"Selecting values took another {duration(study.about['selection_seconds'])}.")
    if study.classifier:
        text.append(
            "To add classes later, metric learning trains nothing. The classifier must be trained again: "
            f"{duration(study.train_seconds(study.classifier))}."
        )
    return text


def beats_untrained(study):
    """Does training beat the untrained features?"""
    rows = {name: study.difference(name, UNTRAINED) for name in study.trained}
    rows = {name: row for name, row in rows.items() if row}
    if not rows:
        return ["This study has no row of the features that its models started from."]
    text = []
    name = study.leading
    if name in rows:
        row = rows[name]
        other = study.metric(row["compared_with"], "precision_at_1")
        text.append(
            f"{verdict(row, code(name), 'the features that it started from')} "
            f"({interval_text(row)}; {code(row['compared_with'])} has {share(other)})."
        )
    if len(rows) > 1:
        text.append(
            counted(list(rows.values()), "trained models", "the features that they started from")
        )
    unseen = [study.difference(name, UNTRAINED, UNSEEN) for name in rows]
    text += _on_unseen(study, [row for row in unseen if row])
    worse = [name for name, row in rows.items() if row["high"] < 0]
    if worse:
        text.append(f"Training made the features worse in {joined([code(one) for one in worse])}.")
    return text


def _on_unseen(study, rows):
    """What training gains on the classes that it did not see: sentences; ``rows``: of differences.csv."""
    text = []
    own = next((row for row in rows if row["experiment"] == study.leading), None)
    if own:
        word = "better" if own["difference"] > 0 else "worse"
        found = f"it is {word} than those features" if shown(own) else "no difference is shown"
        text.append(
            f"On the classes that {code(study.leading)} was not trained on, {found}: {interval_text(own)}."
        )
    if len(rows) > 1:
        text.append(
            counted(rows, "models", "those features on the classes that they were not trained on")
        )
    return text


def best_unseen(study):
    """Which experiment is best on unseen classes?"""
    found = {name: study.metric(name, UNSEEN) for name in study.rows}
    found = {name: one for name, one in found.items() if one}
    if len(found) < 2:
        return ["This study has no two experiments to compare."]
    best = max(found, key=lambda name: found[name]["value"])
    text = [_best(study, best, found[best], "The best")]
    trained = [name for name in study.trained if name in found]
    if best in study.untrained and trained:
        trained = max(trained, key=lambda name: found[name]["value"])
        text.append(_best(study, trained, found[trained], "The best that was trained"))
    text.append(
        f"The best of {len(found)} is chosen by the images that it is judged by, so its number is somewhat too high."
    )
    return text


def _best(study, name, one, title):
    start = f"{title} names {with_interval(one)} of the images of unseen classes: {code(name)}"
    start += " (features before training)" if name in study.untrained else ""
    row = study.difference(name, "baseline", UNSEEN)
    if name == study.about["baseline"]:
        return f"{start}, the baseline."
    if row is None:
        return f"{start}. It is not compared with the baseline: it starts from other weights."
    if shown(row):
        word = "better" if row["difference"] > 0 else "worse"
        return f"{start}. It is {word} than the baseline by {interval_text(row)}."
    return f"{start}. That it is better than the baseline is not shown: {interval_text(row)}, and {CONTAINS_ZERO}."


def which(study):
    """Which seeds and images?"""
    data = study.about["dataset"]
    seeds = joined([str(seed) for seed in study.seeds])
    text = (
        f"Seed{'s' if len(study.seeds) > 1 else ''} {seeds}; {data['name']}: {data['classes']} "
        f"classes, {whole(data['gallery'])} {images(study)} in the gallery and "
        f"{whole(data['queries'])} queries; {data['unseen_classes']} classes unseen to the limited "
        "models"
    )
    if data["unseen_draws"] > 1:
        text += f", in {data['unseen_draws']} draws"
    return [f"{text}."]


QUESTIONS = (
    ("Does metric learning classify as well as a classifier?", classifies),
    ("What do added classes cost?", added_classes),
    ("How many images must be enrolled?", enrolled),
    ("Does it know what it does not know?", knows_unknown),
    ("What does it cost in time?", time_spent),
    ("Does training beat the untrained features?", beats_untrained),
    ("Which experiment is best on unseen classes?", best_unseen),
    ("Which seeds and images?", which),
)


def remarks(study):
    """Sentences that belong to the headline: a training that failed, and a single seed."""
    found = []
    row = study.difference(study.leading, UNTRAINED)
    if row is not None and row["high"] < 0:
        found.append(f"Training made the features worse: {interval_text(row)}.")
    if len(study.seeds) == 1:
        found.append("One seed: this is about these trained models, not about methods.")
    return found


def headline(study):
    """The answer in one sentence, for the README."""
    data, name = study.about["dataset"], study.leading
    own = study.metric(name, "precision_at_1")
    drop = study.metric(name, "precision_drop_unseen_classes")
    epochs = joined([str(one) for one in study.recipe_values("epochs")], "or")
    sizes = joined([str(one) for one in study.recipe_values("image_size")], "or")
    kind = "drawn images" if study.drawn else "real photographs"
    text = (
        f"On {whole(data['gallery'] + data['queries'])} {kind} of {data['classes']} classes "
        f"({data['name']}, {sizes} pixels, {number_of(epochs, 'epoch')}"
        f"{' of heads on a frozen network' if study.heads_only else ''}), metric learning ({code(name)}) names "
        f"{share(own)} of the test images"
    )
    before = study.difference(name, UNTRAINED)
    if before:
        features = study.metric(before["compared_with"], "precision_at_1")
        text += f" ({percent(features['value'])} before training)"
    row = study.difference(name, "classifier") if study.classifier != name else None
    if row:
        softmax = study.metric(study.classifier, "softmax_accuracy")
        text += f", the softmax of a classifier {share(softmax)}"
        if not shown(row):
            text += " (no difference shown)"
    unseen = f"{data['unseen_classes']} classes that it was not trained on"
    if drop["low"] <= 0 <= drop["high"]:
        text += f", and no drop on {unseen} is shown ({points(drop)})"
    else:
        text += f", and the drop on {unseen} is {points(drop)}"
    return f"{text}."
