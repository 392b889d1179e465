"""The verdict in words, from a few templates: enrol, train a head, or retrain?

The comparison page and docs/results.md say the same. A gain that is not shown is not called one.
"""

from dmlstudy.evaluate.deductions import hundredths, share
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.evaluate.verdict import (
    BACKBONE,
    ENROLLED,
    FINDINGS,
    GAIN,
    HEAD,
    HEAD_TRAINED,
    LOSS,
    NOTHING,
    RETRAINED,
)
from dmlstudy.evaluate.verdict_costs import same_device
from dmlstudy.pages.results.phrases import duration, joined, whole

DOING = {HEAD_TRAINED: "training the head again", RETRAINED: "retraining"}
ONCE = {HEAD_TRAINED: "training the head once", RETRAINED: "one retraining"}
ORDER = {HEAD_TRAINED: "Train the head again", RETRAINED: "Retrain"}
FEATURES = {
    NOTHING: "features as they are",
    HEAD: "a head trained before on the other classes",
    BACKBONE: "a network trained before on the other classes",
}
PARTS = {HEAD: "a head", BACKBONE: "a network"}
NOT_RUN = {
    NOTHING: "Features as they are were not among the experiments, so nothing says whether training is needed "
    "at all: `untrained` adds such a row.",
    HEAD: "No head was trained on features of a network that stays as it is: an experiment with "
    "`backbone_trains: false` would say what that gains.",
    BACKBONE: "No network was trained, so nothing says what retraining gains.",
}


def headline(options, name=str):
    """The verdict in a few sentences. ``options``: an `options.Options`; ``name``: how names are written."""
    return " ".join([_decision(options, name), *_training_before(options)])


def _training_before(options):
    """Whether it helps to train on the other classes before new ones are enrolled."""
    rows = [options.speaker(trained, ENROLLED) for trained in (BACKBONE, HEAD)]
    rows = [row for row in rows if row and row["finding"] in FINDINGS]
    gains = [row for row in rows if row["finding"] == GAIN]
    if not rows:
        return []
    if not gains:
        return [
            "No gain of training on the other classes before, over enrolling in features as they are, was shown."
        ]
    parts = [f"{PARTS[row['trained']]} {_gain(row)}" for row in gains]
    return [
        f"Training on the other classes before gains, over enrolling in features as they are: "
        f"{joined(parts)}."
    ]


def _decision(options, name):
    best, again = options.enrolled(), options.again()
    if not again:
        return (
            f"Enrol: nothing was trained in this study, so no gain of training can be told "
            f"({_accuracy(best, name)})."
        )
    gains = [row for row in again if row["finding"] == GAIN]
    if not gains:
        parts = [f"{DOING[row['new_classes']]} ({_gain(row)}{_times(row)})" for row in again]
        text = (
            f"Enrol: on {_classes(best)}, no gain of {joined(parts, 'or')} over enrolling was shown"
        )
        worse = [DOING[row["new_classes"]] for row in again if row["finding"] == LOSS]
        return f"{text}; {joined(worse)} is worse." if worse else f"{text}."
    row = min(gains, key=lambda one: _known(one["seconds_to_add_them"]))
    new = row["new_classes"]
    gained = f"{_gain(row)} of precision@1 on {_classes(row)} over enrolling"
    if not _is_number(row["times_the_cost"]):
        return f"{DOING[new].capitalize()} gains {gained}. {_why_no_cost(row, best, name)}"
    if row["times_the_cost"] <= 1:
        return f"{ORDER[new]}: it gains {gained}, and takes no longer than that."
    return (
        f"{ORDER[new]} if {gained} are worth {_factor(row['times_the_cost'])} times the time; else enrol. "
        f"{ONCE[new].capitalize()} takes as long as enrolling {_many(row['break_even_classes'])} classes."
    )


def details(options, name=str):
    """Further sentences: each option in figures, and what cannot be told."""
    best = options.enrolled()
    told = [_enrolling(best, name), *_few(options, name), *_trained_before(options, name)]
    told += [_again(row, best, name) for row in options.again()]
    for trained in (NOTHING, HEAD, BACKBONE):
        if not options.speaker(trained, ENROLLED):
            told.append(_named(NOT_RUN[trained], name))
    told.append(_limits(options))
    return told


def _named(text, name):
    """``text`` with what stands between backticks written as names are."""
    parts = text.split("`")
    return "".join(name(part) if place % 2 else part for place, part in enumerate(parts))


def _is_number(value):
    return value is not None and value == value


def _known(value):
    """For an order in which unknown numbers come last."""
    return value if _is_number(value) else float("inf")


def _classes(row):
    count = row["unseen_classes"]
    return f"{count} new class{'' if count == 1 else 'es'}"


def _share(row, part):
    key = f"precision_at_1_{part}_classes"
    return share(
        {end or "value": row[f"{key}_{end}" if end else key] for end in ("", "low", "high")}
    )


def _points(row, key):
    """A difference with its sign and interval."""
    sign = "+" if row[key] > 0 else ""
    low, high = (hundredths(row[f"{key}_{end}"]) for end in ("low", "high"))
    return f"{sign}{hundredths(row[key])} points [{low}, {high}]"


def _gain(row):
    text = _points(row, "difference_unseen_classes")
    if _is_number(row["seeds_low"]):
        low, high = (hundredths(row[f"seeds_{end}"]) for end in ("low", "high"))
        text += f" and [{low}, {high}] over {row['seeds']} seeds"
    return text


def _factor(value):
    return f"{value:.1f}" if value < 10 else whole(value)


def _many(value):
    return "less than 1" if value < 1 else whole(value)


def _times(row):
    if not _is_number(row["times_the_cost"]):
        return ""
    return f", at {_factor(row['times_the_cost'])} times the time"


def time_of(seconds):
    """Seconds as text in the unit that fits; "an unknown time" for NaN."""
    if not _is_number(seconds):
        return "an unknown time"
    return duration(seconds) if seconds >= 1 else f"{1000 * seconds:.3g} milliseconds"


def way(row):
    """A way of answering in words."""
    return row["answer"].replace("_", " ")


def _accuracy(row, name):
    return (
        f"{name(row['experiment'])}, answered by {way(row)}, names {_share(row, 'unseen')} of the test "
        f"photographs of {_classes(row)} and {_share(row, 'seen')} of those of the others"
    )


def _enrolling(row, name):
    text = (
        f"Enrolling does best with {FEATURES[row['trained']]}: {_accuracy(row, name)}. Adding a class "
        f"with {row['photographs_of_a_class']:.0f} photographs takes "
        f"{time_of(row['seconds_to_add_a_class'])} ({time_of(row['milliseconds_a_photograph'] / 1000)} "
        f"and {row['gflop']:.2g} GFLOP a photograph, {row['photograph_device']})"
    )
    if row["trained"] == NOTHING:
        return f"{text}; nothing is trained."
    return f"{text}, after a training of {time_of(row['seconds_to_train_first'])}."


def _few(options, name):
    """What enrolling fewer photographs gives."""
    numbers = [one for one in options.photographs if one != ALL]
    found = [row for one in numbers if (row := options.enrolled(one))]
    if not found:
        return []
    parts = [
        f"{row['photographs']}: {_share(row, 'unseen')} ({name(row['experiment'])}, {way(row)})"
        for row in found
    ]
    return [f"By the number of photographs of each new class, the best is {'; '.join(parts)}."]


def _trained_before(options, name):
    """What training on the other classes brings before new ones are enrolled."""
    told = []
    for trained in (HEAD, BACKBONE):
        row = options.speaker(trained, ENROLLED)
        if row is None or not _is_number(row["difference_unseen_classes"]):
            continue
        found = {GAIN: "is better than", LOSS: "is worse than"}
        told.append(
            f"On the new classes, enrolling in {FEATURES[trained]} ({name(row['experiment'])}, "
            f"{way(row)}; {time_of(row['seconds_to_train_first'])} of training) "
            f"{found.get(row['finding'], 'is not shown to differ from')} enrolling in features as they "
            f"are: {_gain(row)}."
        )
    return told


def _again(row, best, name):
    new = row["new_classes"]
    text = (
        f"{DOING[new].capitalize()} with all photographs of the new classes: {_accuracy(row, name)}. Against "
        f"enrolling, that is {_gain(row)} on the new classes and "
        f"{_points(row, 'difference_seen_classes')} on the others"
    )
    if row["finding"] not in (GAIN, LOSS):
        text += "; no difference on the new classes is shown"
    if _is_number(row["other_half"]) and row["other_half"] != row["difference_unseen_classes"]:
        text += f" ({_points(row, 'other_half')} if other classes choose what is compared)"
    text += f". It takes {time_of(row['seconds_to_add_them'])} on {row['device']}"
    if not _is_number(row["times_the_cost"]):
        return f"{text}. {_why_no_cost(row, best, name)}"
    return (
        f"{text}, {_factor(row['times_the_cost'])} times as long as enrolling these classes: as long as "
        f"enrolling {_many(row['break_even_classes'])} classes."
    )


def _why_no_cost(row, best, name):
    if not _is_number(row["seconds_to_add_them"]):
        return (
            f"How long {DOING[row['new_classes']]} of {name(row['experiment'])} takes is not known: its cost.json, or "
            "that of an initializer, has no time, so costs cannot be compared."
        )
    if not same_device(row, best):
        return (
            f"Costs cannot be compared: trained on {row['device']}, photographs embedded on "
            f"{best['photograph_device']}."
        )
    return "How long enrolling takes is not known, so costs cannot be compared."


def _limits(options):
    row = options.whole[0]
    text = (
        f"The option with the highest harmonic mean speaks for its kind, of {len(options.whole)} with all "
        "photographs. Nothing was trained with fewer photographs of the new classes."
    )
    if row["seeds"] == 1:
        draws = "one choice" if row["unseen_draws"] == 1 else f"{row['unseen_draws']} choices"
        text += (
            f" One seed and {draws} of new classes: this is about these models, not about methods."
        )
    return text
