"""The answers of `make quick`: sentences from the tables of combinations, from a few templates.

Where an interval contains 0, or a figure rests on too few photographs, the sentence says so.
"""

from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.evaluate.combinations import ACCEPTED, BOTH, KNOWN, SEEN, UNSEEN
from dmlstudy.evaluate.deductions import hundredths, share
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.pages.quick.findings import (
    FEW,
    LEAST_CLASSES,
    LEAST_QUERIES,
    same,
    told_apart,
    too_few,
    way_in_words,
)
from dmlstudy.pages.results.phrases import percent

# Enrolling enough: this share of the accuracy that all photographs give.
ENOUGH = 0.9
# Combinations that are named where several cannot be told apart.
NAMED = 3
GUESSING = 0.5


def counted(number, noun):
    """``1 class``, ``2 classes``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def photographs_of(size):
    """Enrolled images of each class: ``5``, or ``all``."""
    return "all" if size == ALL else size


def basis(row):
    """On what a figure rests."""
    return f"{counted(row['queries'], 'test photograph')} of {counted(row['classes'], 'class')}"


def difference(row):
    """A difference to the best combination with its interval."""
    low, high = (hundredths(row[f"difference_to_best_{end}"]) for end in ("low", "high"))
    return f"{hundredths(row['difference_to_best'])} points [{low}, {high}]"


def which(findings):
    """Which features and which way of answering serve?"""
    best = findings.best()
    parts = findings.parts(best)
    figures = (
        f"it names {share(parts[SEEN])} of the test photographs of classes that were known before, and "
        f"{share(parts[UNSEEN])} of those of new classes, once these are enrolled with all their photographs"
    )
    if too_few(parts[UNSEEN]):
        return [
            f"No combination can be recommended: the figures of new classes rest on {basis(parts[UNSEEN])}, and a "
            f"conclusion needs at least {LEAST_QUERIES} of {LEAST_CLASSES} classes. The highest figures are "
            f"those of {findings.combination(best)}: {figures}."
        ]
    known = parts[KNOWN]
    return [
        f"The best is {findings.combination(best)}: {figures}. If all classes are known from the start, it names "
        f"{share(known)}.",
        _others(findings),
    ]


def _others(findings):
    """How the best combination stands to the others."""
    best, *others = findings.rows(BOTH)
    if not others:
        return "There is no other combination to compare it with."
    equal = [row for row in others if not told_apart(row)]
    if not equal:
        return (
            f"It is better than each of the {len(others)} other combinations; the next is "
            f"{findings.combination(others[0])} ({difference(others[0])} in the harmonic mean of the two figures)."
        )
    named = [f"{findings.combination(row)} ({difference(row)})" for row in equal[:NAMED]]
    more = len(equal) - len(named)
    text = (
        f"{_of(len(equal), len(others))} cannot be told from it, since the interval of the difference contains "
        f"0: {'; '.join(named)}{f'; and {more} more' if more else ''}."
    )
    simple = next((row for row in equal if row["answer"] == NEAREST), None)
    if simple is not None and best["answer"] != NEAREST:
        text += f" Among these is the simplest way, the nearest photograph ({findings.features(simple['experiment'])})."
    return text


def _of(number, total):
    if number == total:
        return f"{'All' if total > 1 else 'The'} {counted(total, 'other combination')}"
    return f"{number} of the {counted(total, 'other combination')}"


def few_photographs(findings):
    """Which combination serves with few photographs of a new class?"""
    few = findings.best(UNSEEN, FEW)
    if few is None:
        return [
            f"With {FEW} photographs of a new class nothing was measured: the classes have no more themselves."
        ]
    best = findings.best()
    start = (
        f"With {FEW} photographs of each new class, {findings.combination(few)} names {share(few)}"
    )
    if same(few, best):
        text = f"{start}: the same combination."
    else:
        own = findings.row(UNSEEN, best, FEW)
        text = f"{start}, the combination above {share(own)}"
        if too_few(few):
            text += "."
        elif told_apart(own):
            text += f". So with few photographs of new classes, {way_in_words(few['answer'])} serves better."
        else:
            text += " (no difference shown: the interval contains 0)."
    if too_few(few):
        text += f" This rests on {basis(few)}: too few for a conclusion."
    return [text]


def enrolment(findings):
    """How many photographs does a new class need?"""
    best, few = findings.best(), findings.best(UNSEEN, FEW)
    chosen = [best] if few is None or same(few, best) else [few, best]
    return [_curve(findings, combination) for combination in chosen]


def _curve(findings, combination):
    curve = findings.curve(combination)
    final = curve[-1]
    about = findings.cost(combination)["images_of_that_class"]
    first, *others = curve
    text = (
        f"With {_photographs(first, about)} of each new class, {findings.combination(combination)} names "
        f"{share(first)} of the photographs of these classes"
    )
    for row in others:
        text += f"; with {_number(row, about)}, {share(row)}"
    text += "."
    if too_few(final):
        return f"{text} This rests on {basis(final)}: too few for a conclusion."
    enough = next(row for row in curve if row["value"] >= ENOUGH * final["value"])
    if enough is final:
        return f"{text} No smaller number reaches {ENOUGH * 100:.0f} % of the last figure: more photographs help."
    return (
        f"{text} The smallest number tried that reaches {ENOUGH * 100:.0f} % of the last figure is "
        f"{enough['images_per_class']}."
    )


def _number(row, about):
    """Enrolled photographs of a class: ``5``, or ``all (about 40)``."""
    size = row["images_per_class"]
    return f"all (about {about:.0f})" if size == ALL else size


def _photographs(row, about):
    number = _number(row, about)
    return f"{number} photograph{'' if number == '1' else 's'}"


def strangers(findings):
    """How well are strangers told?"""
    best = findings.best_for_strangers()
    if best is None:
        return ["There is no test photograph of a stranger, so nothing can be said."]
    own = findings.stranger({**findings.best(), "answer": NEAREST})
    found = [
        f"The similarity to the nearest photograph ({findings.features(own['experiment'])}) tells strangers, "
        f"photographs of classes that are not enrolled, with an AUROC of {_auroc(own)}; guessing gives "
        f"{GUESSING}."
    ]
    if own["called_unknown"] == own["called_unknown"]:
        found.append(
            f"At the threshold that should let {ACCEPTED * 100:.0f} % of the photographs of enrolled classes "
            f"pass, {percent(own['called_unknown'])} of the strangers are called unknown; the others get the "
            f"name of a wrong class. It let {percent(own['accepted_seen_classes'])} of the enrolled ones pass."
        )
    if not same(best, own):
        found.append(
            f"The best score for strangers is that of {findings.combination(best)}: {_auroc(best)}."
        )
    if too_few(findings.best(UNSEEN)):
        found.append(
            f"All of this rests on {basis(findings.best(UNSEEN))}: too few for a conclusion."
        )
    return found


def _auroc(row):
    text = f"{row['auroc']:.2f}"
    if row["draws"] > 1:
        text += (
            f" (mean of {row['draws']} draws of strangers, from {row['auroc_least']:.2f} to "
            f"{row['auroc_most']:.2f})"
        )
    return text


def cost(findings):
    """What does it cost?"""
    own = findings.cost(findings.best())
    threads = findings.facts["threads"]
    where = (
        f"{own['device']}, {counted(threads, 'thread')}"
        if own["device"] == "cpu"
        else own["device"]
    )
    text = (
        f"The features took {own['seconds_of_features']:.0f} s for {own['images']:,} photographs ({where}), "
        f"{milliseconds(own['milliseconds_a_photograph'])} a photograph. Answering takes "
        f"{milliseconds(own['milliseconds_a_query'])} a photograph, fitting {seconds(own['seconds_to_fit'])}"
    )
    added = own["seconds_to_add_a_class"]
    if added == added:
        text += (
            f", adding a class of {own['images_of_that_class']:.0f} photographs {seconds(added)}"
        )
    return [f"{text} (one thread). Nothing was trained."]


def milliseconds(value):
    """A time with as many digits as it deserves."""
    return (
        f"{value:.0f} ms"
        if value >= 10
        else f"{value:.1f} ms"
        if value >= 0.1
        else "less than 0.1 ms"
    )


def seconds(value):
    return f"{value:.1f} s" if value >= 1 else milliseconds(1000 * value)


def naming(findings):
    """By what the command that names photographs answers, and what leaving the best way out would give."""
    best = findings.best()
    text = "Without --answer, name_photos.py answers by the nearest photograph"
    if best["answer"] == NEAREST:
        return f"{text}, which is the best way here."
    seen, unseen = (findings.row(part, {**best, "answer": NEAREST}) for part in (SEEN, UNSEEN))
    return (
        f"--answer {best['answer']} answers in the best way. {text}. With the best features, "
        f"{findings.features(best['experiment'])}, that names {share(seen)} of the test photographs of known "
        f"classes and {share(unseen)} of those of new ones. What is called unknown does not depend on --answer."
    )


def limits(findings):
    """What should be known before these figures are believed."""
    count, combinations = findings.photographs, len(findings.rows(BOTH))
    found = [
        f"{counted(findings.facts['unseen_classes'], 'class')} of {count['classes']} played the new ones and the "
        f"strangers, in {counted(findings.facts['draws'], 'draw')}; {count['test']:,} photographs were tested, "
        f"{count['train']:,} were compared with. Intervals are 95 % intervals: of new classes, classes and then "
        "their photographs are resampled."
    ]
    if combinations > 1:
        found.append(
            f"The best of {combinations} combinations was found on the same test photographs that give its figures, so "
            "these, and its differences to the others, are somewhat too high."
        )
    if count["copies"]:
        found.append(
            f"{counted(count['copies'], 'file')} stand both among the tested photographs and among those that they "
            "are compared with: such answers are right and prove nothing. docs/copies.md says what to do."
        )
    for one in findings.facts["features"]:
        if one["test_images"] in ("yes", "likely"):
            found.append(
                f"{one['backbone']}: its training data hold ({one['test_images']}) such photographs, so its "
                "figures may be too high for a new kind of image."
            )
    return found


QUESTIONS = (
    ("which", "Which features and which way of answering?", which),
    ("few", "And with few photographs of a new class?", few_photographs),
    ("enrolment", "How many photographs does a new class need?", enrolment),
    ("strangers", "How well are strangers told?", strangers),
    ("cost", "What does it cost?", cost),
)


def answers(findings):
    """[(id, question, sentences)] of all questions."""
    return [(name, question, sentences(findings)) for name, question, sentences in QUESTIONS]
