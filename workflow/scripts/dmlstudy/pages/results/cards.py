"""The answers as a page shows them: a sentence, its figure and a small picture for each question.

Sentences are those of `sentences`, so that a page and the documentation say the same.
"""

from dataclasses import dataclass

from dmlstudy.evaluate.deductions import hundredths, shown
from dmlstudy.pages.results import sentences
from dmlstudy.pages.results.phrases import duration, images, test_images, whole
from dmlstudy.pages.results.sentences import CHANCE
from dmlstudy.pages.results.study import UNSEEN

# Beyond this factor, a number of photographs that would be needed is no advice.
FAR = 100
UNITS = {"hours": "h", "minutes": "min", "seconds": "s"}
DOTS, BARS, CURVE = "dots", "bars", "curve"


@dataclass(frozen=True)
class Card:
    """One question of the study and its answer.

    ``said``: its sentences, the answer first. ``figure``: the number that decides, as text, ``unit``
    and ``interval`` (text, may be empty) beside it, and ``of`` what it is. ``kind``: of the picture:
    `DOTS`, `BARS` or `CURVE`. ``rows``: its lines or points, {"label", "text", "value", "low", "high"};
    without an end an interval is not drawn. ``scale``: (least, most) of the axis. ``reference``:
    (value, what it is) of a line across the picture, or None. ``needed``: what would be needed to
    conclude more, empty if nothing is open. ``times``: whether it speaks of measured times, which differ
    from run to run.
    """

    question: str
    said: list
    figure: str = ""
    unit: str = ""
    interval: str = ""
    of: str = ""
    kind: str = DOTS
    rows: tuple = ()
    scale: tuple = (0.0, 1.0)
    reference: tuple | None = None
    needed: str = ""
    times: bool = False


def cards(study):
    """The `Card` of each question that a page shows first, in order."""
    return [
        make(study, question, say(study))
        for (question, say), make in zip(sentences.QUESTIONS[: len(MAKERS)], MAKERS, strict=True)
    ]


def without_card(study):
    """[(question, sentences)] of the other questions."""
    return [(question, say(study)) for question, say in sentences.QUESTIONS[len(MAKERS) :]]


def _classifies(study, question, said):
    name, classifier = study.leading, study.classifier
    row = study.difference(name, "classifier") if classifier else None
    if row is None or name == classifier:
        wanted = (
            "Needed: an experiment with a metric loss, and one with the loss cross-entropy to compare "
            "it with."
        )
        return Card(question, said, needed=wanted)
    own, softmax = (
        study.metric(name, "precision_at_1"),
        study.metric(classifier, "softmax_accuracy"),
    )
    rows = (_row("metric loss", own), _row("softmax", softmax))
    return Card(
        question,
        said,
        **_points(row["difference"], row),
        of="precision@1 minus softmax",
        rows=rows,
        scale=_scale(rows),
        needed=more_needed(row, row["difference"], row["queries"], test_images(study)),
    )


def _added_classes(study, question, said):
    name = study.leading
    if name in study.untrained:
        return Card(question, said)
    drop = study.metric(name, "precision_drop_unseen_classes")
    full = study.metric(name, "all_classes_precision_at_1_unseen_classes")
    limited = study.metric(name, UNSEEN)
    rows = (_row("trained", full), _row("not trained", limited))
    unseen = study.about["dataset"]["unseen_classes"]
    return Card(
        question,
        said,
        **_points(drop["value"], drop, sign=False),
        of="drop on unseen classes",
        rows=rows,
        scale=_scale(rows),
        needed=more_needed(drop, drop["value"], unseen, "unseen classes"),
    )


def _enrolled(study, question, said):
    curve = [one for one in study.enrolment(study.leading) if one["images"] != "0"]
    if not curve:
        return Card(question, said)
    enough = sentences.enough(curve)
    all_of_them = enough is curve[-1]
    rows = tuple(_row(one["images"], one) for one in curve)
    return Card(
        question,
        said,
        figure=hundredths(enough["value"]),
        unit="%",
        interval=_interval(enough),
        of=f"of unseen classes named, {enough['images']} enrolled",
        kind=CURVE,
        rows=rows,
        scale=(0.0, _scale(rows)[1]),
        needed=f"More {images(study)} of each class would tell whether it rises further."
        if all_of_them
        else "",
    )


def _knows_unknown(study, question, said):
    found = study.rejection(study.leading)
    if found is None:
        return Card(question, said)
    ends = "" if found["low"] != found["low"] else f"[{found['low']:.3f}, {found['high']:.3f}]"
    away = {"low": found["low"] - CHANCE, "high": found["high"] - CHANCE}
    unseen = study.about["dataset"]["unseen_classes"]
    return Card(
        question,
        said,
        figure=f"{found['value']:.3f}",
        interval=ends,
        of="AUROC, unseen against known",
        rows=({**_row("AUROC", found), "text": f"{found['value']:.3f}"},),
        scale=(min(0.4, found["value"]), 1.0),
        reference=(CHANCE, "guessing"),
        needed=more_needed(away, found["value"] - CHANCE, unseen, "unseen classes"),
    )


def _time_spent(study, question, said):
    name = study.leading
    if name not in study.trained:
        return Card(question, said, times=True)
    seconds = {
        one: study.train_seconds(one)
        for one in dict.fromkeys((name, study.classifier))
        if one in study.trained
    }
    rows = [("training", seconds[name])]
    if study.classifier in seconds and study.classifier != name:
        # Metric learning trains nothing for new classes; the classifier is trained again.
        rows += [("add classes", 0.0), ("classifier", seconds[study.classifier])]
    figure, unit = duration(seconds[name]).split(" ")
    return Card(
        question,
        said,
        times=True,
        figure=figure,
        unit=unit,
        of="training on all classes",
        kind=BARS,
        rows=tuple(
            {"label": label, "value": value, "text": _brief(value)} for label, value in rows
        ),
        scale=(0.0, max(value for _, value in rows) or 1.0),
    )


MAKERS = (_classifies, _added_classes, _enrolled, _knows_unknown, _time_spent)


def _brief(seconds):
    """Seconds as text in the unit that fits, abbreviated."""
    number, unit = duration(seconds).split(" ")
    return f"{number} {UNITS[unit]}"


def _row(label, one):
    return {"label": label, "text": hundredths(one["value"]), **{key: one[key] for key in ("value", "low", "high")}}  # fmt: skip


def _scale(rows):
    """A scale that holds all rows and their intervals, with some air; for shares."""
    ends = [one[key] for one in rows for key in ("value", "low", "high") if one[key] == one[key]]
    air = 0.15 * max(max(ends) - min(ends), 0.05)
    return max(0.0, min(ends) - air), min(1.0, max(ends) + air)


def _points(value, ends, sign=True):
    """Figure, unit and interval of a share in points."""
    plus = "+" if sign and value > 0 else ""
    return {
        "figure": f"{plus}{hundredths(value)}",
        "unit": "points",
        "interval": _interval(ends),
    }


def _interval(one):
    if one["low"] != one["low"]:
        return ""
    return f"[{hundredths(one['low'])}, {hundredths(one['high'])}]"


def more_needed(ends, value, count, what):
    """How many more would show a difference of this size, as a sentence; empty if it is shown.

    An interval's reach from the value to the end beyond 0 shrinks with the root of the number of what is
    resampled, so ``count`` of them must grow by (reach / value)². ``ends``: {"low", "high"}; ``what``: the
    plural of what is resampled.
    """
    if ends["low"] != ends["low"] or shown(ends):
        return ""
    reach = value - ends["low"] if value > 0 else ends["high"] - value
    if reach == 0 or abs(value) * FAR**0.5 < reach:
        return f"A difference this small would need more than {FAR} times as many {what}."
    needed = count * (reach / abs(value)) ** 2
    step = 10 ** max(0, len(str(int(needed))) - 2)
    return (
        f"A difference of this size would be shown by about {whole(step * (needed // step + 1))} "
        f"{what} (now {whole(count)})."
    )
