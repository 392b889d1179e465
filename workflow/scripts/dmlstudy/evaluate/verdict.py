"""Enrol, train a head, or retrain? The accuracy of each option on seen and on unseen classes: verdict.csv.

An *option* is an experiment, what is done when unseen classes come, a way of answering, and how many
photographs of each of these classes there are. Nothing here depends on how long anything took.
docs/verdict.md has the definitions.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval, t_interval
from dmlstudy.evaluate.metrics import harmonic_mean

# What the study trained: column ``trained``.
NOTHING, HEAD, BACKBONE = "nothing", "head", "backbone"
# What is done when unseen classes come: column ``new_classes``.
ENROLLED, HEAD_TRAINED, RETRAINED = "enrolled", "head trained", "retrained"
AGAIN = {HEAD: HEAD_TRAINED, BACKBONE: RETRAINED}
# Findings of a comparison.
FINDINGS = GAIN, LOSS, NOT_SHOWN = "gain", "loss", "not shown"
# Options that are resampled at a time: some hundred megabytes.
AT_A_TIME = 256


class Option(NamedTuple):
    """One option. ``photographs``: of each unseen class, a number as text, or ``all``."""

    experiment: str
    trained: str
    new_classes: str
    answer: str
    photographs: str

    @property
    def group(self):
        """Options among which one is chosen to speak for all."""
        return self.trained, self.new_classes, self.photographs


@dataclass
class Scores:
    """What each option scores on each query, as a mean over draws of photographs and of unseen classes.

    ``unseen``, ``seen``: float (seeds, queries, options), numerators as of `study_metrics.contributions`;
    ``unseen_weights``, ``seen_weights`` (queries,): their denominators; ``classes`` (queries,): class ids;
    ``unseen_in`` (queries,): in how many draws the query's class is unseen.
    """

    options: list
    unseen: np.ndarray
    seen: np.ndarray
    unseen_weights: np.ndarray
    seen_weights: np.ndarray
    classes: np.ndarray
    unseen_in: np.ndarray

    @classmethod
    def of(cls, hits, trained, seen):
        """``hits``: {experiment: `answer_hits.AnswerHits`}; ``trained``: {experiment: see `Option`};
        ``seen``: {limited class set: boolean mask over classes}."""
        first = next(iter(hits.values()))
        classes = first.query_classes
        known = {name: mask[classes] for name, mask in seen.items()}
        parts = {
            "unseen": {name: ~one for name, one in known.items()},
            "seen": known,
        }
        weights = {
            part: {name: one / max(one.sum(), 1) / len(seen) for name, one in sets.items()}
            for part, sets in parts.items()
        }
        options, columns = [], {"unseen": [], "seen": []}
        for experiment, own in hits.items():
            if not np.array_equal(own.query_classes, classes):
                raise StudyError(
                    f"{experiment}: answers_hits.npz has other queries than that of the other experiments; "
                    "make all again with: snakemake … --forcerun answer"
                )
            for option, of_set in _options(experiment, trained[experiment], own, list(seen)):
                options.append(option)
                for part, sets in weights.items():
                    columns[part].append(sum(of_set(name) * sets[name] for name in seen))
        return cls(
            options,
            *(np.stack(columns[part], axis=-1) for part in ("unseen", "seen")),
            *(sum(weights[part].values()) for part in ("unseen", "seen")),
            classes,
            sum(parts["unseen"].values()),
        )

    def of_seeds(self, part, queries=slice(None)):
        """Accuracies (seeds, options) on the unseen or the seen classes; ``queries``: those that count."""
        values, weights = getattr(self, part), getattr(self, f"{part}_weights")
        total = weights[queries].sum()
        sums = values[:, queries].sum(axis=1)
        return sums / total if total else np.full_like(sums, np.nan)

    def harmonic(self, queries=slice(None)):
        """Harmonic means (options,) of both accuracies: of each seed, then averaged."""
        parts = (self.of_seeds(part, queries) for part in ("seen", "unseen"))
        return harmonic_mean(*parts).mean(axis=0)

    def samples(self, values, part, sampling):
        """Bootstrap samples (draws, k) of ``values`` (queries, k), numerators of ``part``.

        Unseen classes are resampled, then their queries; of seen classes, queries: as in summary.csv.
        """
        weights = getattr(self, f"{part}_weights")
        counted = weights > 0
        return bootstrap(
            values[counted],
            weights[counted],
            classes=self.classes[counted] if part == "unseen" else None,
            **sampling,
        )


def _options(experiment, trained, hits, class_sets):
    """(option, function class set → hits (seeds, queries)) of an experiment, enrolled ones first."""
    enrolled = {name: hits.enrolled[name] for name in class_sets}
    sizes = [
        size
        for size in next(iter(enrolled.values())).photographs
        if size != "0" and all(size in one.photographs for one in enrolled.values())
    ]
    for place, answer in enumerate(hits.answers):
        for size in sizes:

            def of_set(name, place=place, size=size):
                one = enrolled[name]
                position = one.photographs.index(size)
                return one.hits[:, place, position] / one.draws[position]

            yield Option(experiment, trained, ENROLLED, answer, size), of_set
    if trained in AGAIN:
        for place, answer in enumerate(hits.trained_answers):
            option = Option(experiment, trained, AGAIN[trained], answer, ALL)
            yield option, lambda name, place=place: hits.trained[:, place].astype(float)


def chosen(options, values):
    """{group: position of the option that speaks for it}: the highest value; of equal ones the first."""
    found = {}
    for position, option in enumerate(options):
        best = found.get(option.group)
        if best is None or values[position] > values[best]:
            found[option.group] = position
    return found


def best_enrolled(speakers, values):
    """Position of the best option that only enrols all photographs, or None; see `chosen`."""
    found = [speakers.get((trained, ENROLLED, ALL)) for trained in (NOTHING, HEAD, BACKBONE)]
    return max((one for one in found if one is not None), key=values.__getitem__, default=None)


def reference(option, speakers, values):
    """Position of the option that another is compared with, or None.

    What is trained again with the unseen classes is compared with the best option that only enrols them. What only
    enrols them is compared with enrolling as many photographs in features as they are.
    """
    if option.new_classes == ENROLLED:
        return speakers.get((NOTHING, ENROLLED, option.photographs))
    return best_enrolled(speakers, values)


def halves(scores, seed):
    """Which of two halves each query is in (queries,), by its class; unseen classes are shared out evenly."""
    ids, first = np.unique(scores.classes, return_index=True)
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    order = shuffled[np.argsort(-scores.unseen_in[first][shuffled], kind="stable")]
    half = np.empty(len(ids), dtype=np.int64)
    half[order] = np.arange(len(ids)) % 2
    return half[np.searchsorted(ids, scores.classes)]


def verdict_table(hits, trained, seen, *, draws, seed):
    """The table ``verdict.csv``: a row per option.

    ``hits``, ``trained``, ``seen``: see `Scores.of`; ``draws``, ``seed``: of the bootstrap. Columns: those
    of `Option`; ``chosen``: 1 if the option speaks for its group, having the highest harmonic mean in it;
    ``precision_at_1_seen_classes``, ``…_unseen_classes`` and ``harmonic_mean`` with low and high (95 %);
    ``compared_with``, ``compared_answer``: see `reference`; ``difference_unseen_classes`` and
    ``difference_seen_classes`` with low and high, paired by query; ``seeds_low``, ``seeds_high``: t-interval
    of the former over seeds; ``other_half``, ``…_low``, ``…_high``: of chosen options, the former where each half of the
    classes is answered by the options that the other half chose; ``finding``: see `finding`; ``seeds``,
    ``unseen_draws``, ``unseen_queries``, ``unseen_classes``.
    """
    scores = Scores.of(hits, trained, seen)
    sampling = {"draws": draws, "seed": seed}
    options, values = scores.options, scores.harmonic()
    speakers = chosen(options, values)
    compared = [reference(option, speakers, values) for option in options]
    counted = scores.unseen_weights > 0
    facts = {
        "seeds": scores.unseen.shape[0],
        "unseen_draws": len(seen),
        "unseen_queries": int(counted.sum()),
        "unseen_classes": int((~next(iter(seen.values()))).sum()),
    }
    rows = [
        option._asdict() | {"chosen": int(speakers[option.group] == position)}
        for position, option in enumerate(options)
    ]
    _add_accuracies(rows, scores, sampling)
    _add_differences(rows, scores, compared, sampling)
    _add_other_halves(rows, scores, speakers, compared, halves(scores, seed), sampling)
    for row in rows:
        row["finding"] = finding(row)
        row |= facts
    return pd.DataFrame(rows)


def _put(row, name, value, interval):
    row[name] = float(value)
    row[f"{name}_low"], row[f"{name}_high"] = interval


def _add_accuracies(rows, scores, sampling):
    names = ("precision_at_1_seen_classes", "precision_at_1_unseen_classes", "harmonic_mean")
    own = [scores.of_seeds(part).mean(axis=0) for part in ("seen", "unseen")]
    values = (*own, scores.harmonic())
    for begin in range(0, len(rows), AT_A_TIME):
        columns = slice(begin, begin + AT_A_TIME)
        means = 0
        for of_seen, of_unseen in zip(scores.seen, scores.unseen, strict=True):
            seen = scores.samples(of_seen[:, columns], "seen", sampling)
            unseen = scores.samples(of_unseen[:, columns], "unseen", sampling)
            means = means + np.array([seen, unseen, harmonic_mean(seen, unseen)]) / len(scores.seen)
        for offset, row in enumerate(rows[columns]):
            for name, value, samples in zip(names, values, means, strict=True):
                _put(row, name, value[begin + offset], percentile_interval(samples[:, offset]))


def _add_differences(rows, scores, compared, sampling):
    """Add the difference to the option that each one is compared with; empty for that option itself."""
    for position, (row, other) in enumerate(zip(rows, compared, strict=True)):
        given = other is not None and other != position
        row["compared_with"] = scores.options[other].experiment if given else ""
        row["compared_answer"] = scores.options[other].answer if given else ""
    pairs = [
        (position, other)
        for position, other in enumerate(compared)
        if other is not None and other != position
    ]
    empty = (np.nan, np.nan)
    for part in ("unseen", "seen"):
        name = f"difference_{part}_classes"
        of_seeds = scores.of_seeds(part)
        for row in rows:
            _put(row, name, np.nan, empty)
        for begin in range(0, len(pairs), AT_A_TIME):
            ours, theirs = map(list, zip(*pairs[begin : begin + AT_A_TIME], strict=True))
            values = getattr(scores, part).mean(axis=0)
            samples = scores.samples(values[:, ours] - values[:, theirs], part, sampling)
            for position, other, own in zip(ours, theirs, samples.T, strict=True):
                difference = of_seeds[:, position] - of_seeds[:, other]
                _put(rows[position], name, difference.mean(), percentile_interval(own))
    unseen = scores.of_seeds("unseen")
    for row in rows:
        row["seeds_low"], row["seeds_high"] = empty
    for position, other in pairs:
        low, high, _ = t_interval(unseen[:, position] - unseen[:, other])
        rows[position]["seeds_low"], rows[position]["seeds_high"] = low, high


def _add_other_halves(rows, scores, speakers, compared, half, sampling):
    """Add what is left of the differences of chosen options if other classes choose them, and what they are
    compared with."""
    for row in rows:
        _put(row, "other_half", np.nan, (np.nan, np.nan))
    counted = scores.unseen_weights > 0
    if len(np.unique(scores.classes[counted])) < 2 or len(np.unique(half[counted])) < 2:
        return
    # Of each half: what its own queries would choose.
    by_half = []
    for number in (0, 1):
        values = scores.harmonic(half == number)
        by_half.append((chosen(scores.options, values), values))
    values = scores.unseen.mean(axis=0)
    columns = {}
    for group, position in speakers.items():
        if compared[position] in (None, position):
            continue
        answered = np.empty(len(half))
        for number, (own, of_half) in enumerate(by_half):
            ours = own[group]
            theirs = reference(scores.options[ours], own, of_half)
            others = half != number
            answered[others] = values[others, ours] - values[others, theirs]
        columns[position] = answered
    if columns:
        together = np.column_stack(list(columns.values()))
        samples = scores.samples(together, "unseen", sampling)
        means = together.sum(axis=0) / scores.unseen_weights.sum()
        for position, mean, own in zip(columns, means, samples.T, strict=True):
            _put(rows[position], "other_half", mean, percentile_interval(own))


def finding(row):
    """`GAIN`, `LOSS` or `NOT_SHOWN` on the unseen classes; empty for a row that is compared with nothing.

    Every interval that there is must be on the same side of 0: that of the queries, that of the choice by
    other classes, and that over seeds.
    """
    if np.isnan(row["difference_unseen_classes"]):
        return ""
    ends = [
        (row[f"{name}low"], row[f"{name}high"])
        for name in ("difference_unseen_classes_", "other_half_", "seeds_")
        if not np.isnan(row[f"{name}low"])
    ]
    if all(low > 0 for low, _ in ends):
        return GAIN
    return LOSS if all(high < 0 for _, high in ends) else NOT_SHOWN
