"""Published figures and deductions against ours: holds, does not hold, cannot tell.

The rules are `RULES`, printed beside the verdicts. A figure is compared with the experiment that has
the recipe that was run for it; there is a verdict only where data set, split, epochs and recipe equal
the published ones.
"""

import math

import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.intervals import binomial_interval

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = "holds", "does not hold", "cannot tell"
NOT_COMPARABLE = "not comparable"

RULES = {
    "figure": "holds if our 95 % interval overlaps the published value's binomial 95 % interval at its "
    "number of queries (of a drop: that of a difference of two shares)",
    "higher by": "direction: holds if our interval of the difference lies above 0, does not hold if "
    "below; size: holds if it contains the published difference",
    "lower by": "direction: holds if our interval of the difference lies below 0, does not hold if "
    "above; size: holds if it contains the published difference",
    "higher": "holds if our interval of the difference lies above 0, does not hold if below",
    "below": "holds if our interval lies below the published value, does not hold if above",
    "about": "size: holds if our interval overlaps the published value's binomial 95 % interval at our "
    "number of queries",
    "no effect": "holds only if our interval of the difference lies within ± {margin:g} points, does "
    "not hold if it lies outside of them",
}
RULES |= {
    "about the same as": RULES["no effect"],
    "unchanged during fine-tuning": RULES["no effect"],
}

SECOND_NEIGHBOUR = (
    "the published limited model was judged by its second neighbour, which costs up to 3.9 points"
)
# Columns of published.csv: our figure, why the published one is no evidence, what weakens it.
FIGURES = {
    "test_accuracy_all_classes": ("test_accuracy_all_classes", "", ""),
    "test_accuracy_limited_classes": ("test_accuracy_limited_classes", "", ""),
    "drop_unseen_as_published": (
        "precision_drop_unseen_classes",
        "counted over 21 classes, with the second neighbour; see drop_unseen_last_20",
        "",
    ),
    "drop_unseen_last_20": ("precision_drop_unseen_classes", "", SECOND_NEIGHBOUR),
    "drop_seen": (
        "precision_drop_seen_classes",
        "",
        f"{SECOND_NEIGHBOUR}; with augmentation it was also tested on crops and the other one on "
        "squashed images, which costs 3 to 5 points",
    ),
}
# Quantities of published_deductions.csv: our figure, one that differences are made of.
QUANTITIES = {
    # Of an all-classes model this is the test accuracy.
    "test_accuracy": "precision_at_1",
    "precision_drop_unseen_classes": "precision_drop_unseen_classes",
    "unseen_accuracy": "limited_precision_at_1_unseen_classes",
}


def overlap(interval, other):
    """The verdict on a figure: whether two intervals (low, high) have a point in common."""
    return HOLDS if interval[0] <= other[1] and other[0] <= interval[1] else DOES_NOT_HOLD


def above(interval, value=0.0):
    """The verdict on "higher than ``value``"."""
    if interval[0] > value:
        return HOLDS
    return DOES_NOT_HOLD if interval[1] < value else CANNOT_TELL


def below(interval, value=0.0):
    """The verdict on "lower than ``value``"."""
    return above((-interval[1], -interval[0]), -value)


def size(interval, value):
    """The verdict on how large a difference is."""
    return HOLDS if interval[0] <= value <= interval[1] else DOES_NOT_HOLD


def equivalence(interval, margin):
    """The verdict on "no effect": within ± ``margin``, outside of it, or neither."""
    if -margin <= interval[0] and interval[1] <= margin:
        return HOLDS
    return DOES_NOT_HOLD if interval[0] > margin or interval[1] < -margin else CANNOT_TELL


def difference_interval(difference, shares, count):
    """95 % interval of a difference of two shares of ``count`` trials each, as if independent."""
    error = math.sqrt(sum(share * (1 - share) for share in shares) / count)
    return difference - 1.96 * error, difference + 1.96 * error


def _number(text):
    return float(text) if text != "" else None


class Reproduction:
    """Our side: figures, differences and curves, by experiment.

    ``matches``: {published experiment: {"experiment": ours or None, "why": text}}.
    ``figures``: {(experiment, figure): {"value", "low", "high", "queries"}}. ``differences``:
    {(experiment, other, figure): {"difference", "low", "high"}}. ``curves``: {experiment: {epoch:
    test accuracy}}. ``obstacle``: why nothing is comparable, or an empty text.
    """

    def __init__(self, matches, figures, differences, curves, obstacle=""):
        self.matches, self.figures, self.differences = matches, figures, differences
        self.curves, self.obstacle = curves, obstacle

    @classmethod
    def of_tables(cls, matches, figures, differences, curves, obstacle=""):
        """``figures``: {experiment: its figures.csv, indexed by figure}; ``differences``: a table."""
        by_figure = {
            (name, figure): {**row, **_wider(row)}
            for name, table in figures.items()
            for figure, row in table.to_dict("index").items()
        }
        by_pair = {
            (row["experiment"], row["compared_with"], row["figure"]): {**row, **_wider(row)}
            for row in differences.to_dict("records")
        }
        return cls(matches, by_figure, by_pair, curves, obstacle)

    def match(self, name):
        """(our experiment or None, remark) for a published one."""
        found = self.matches.get(name, {"experiment": None, "why": "unknown experiment"})
        if self.obstacle:
            return None, self.obstacle
        ours = found["experiment"]
        if ours is None:
            return None, found["why"]
        remark = "" if ours == name else f"compared with {ours}, whose recipe was run"
        return ours, remark

    def figure(self, ours, name):
        """Our figure; of a classifier, its softmax stands for its test accuracy."""
        if name == "test_accuracy_all_classes" and (ours, "softmax_accuracy") in self.figures:
            name = "softmax_accuracy"
        return self.figures.get((ours, name))


def judge_figures(published, reproduction):
    """A row per published figure. ``published``: rows of published.csv as dictionaries of texts."""
    rows = []
    for entry in published:
        name = entry["experiment"]
        ours, remark = reproduction.match(name)
        stopped = _number(entry["epochs_run"])
        for column, (figure, no_evidence, caveat) in FIGURES.items():
            value = _number(entry[column])
            if value is None:
                continue
            remarks = [remark] if remark else []
            row = {
                "experiment": name,
                "figure": column,
                "published": value,
                "published_low": None,
                "published_high": None,
                "compared_with": ours or "",
                "value": None,
                "low": None,
                "high": None,
                "queries": None,
            }
            found = reproduction.figure(ours, figure) if ours else None
            reason = entry["no_evidence"] or no_evidence
            if found is None:
                row["verdict"] = NOT_COMPARABLE
                remarks += [] if remarks else [f"there is no {figure} of {ours}"]
            else:
                row |= {key: found[key] for key in ("value", "low", "high", "queries")}
                count = round(found["queries"])
                interrupted = stopped is not None and stopped < reproduction.matches[name]["epochs"]
                if interrupted and column == "test_accuracy_all_classes":
                    at_epoch = reproduction.curves[ours].get(int(stopped))
                    remarks.append(f"ours at epoch {stopped:g}, where the notebook was stopped")
                    row["value"] = at_epoch
                    if at_epoch is None:
                        reason = reason or "our curve has no point there"
                        row["low"] = row["high"] = None
                    else:
                        row["low"], row["high"] = binomial_interval(at_epoch, count)
                elif interrupted:
                    reason = reason or f"the notebook was stopped at epoch {stopped:g}"
                if column.startswith("test_accuracy"):
                    interval = binomial_interval(value, count)
                else:
                    shares = [
                        _number(entry[f"test_accuracy_{part}_classes"])
                        for part in ("all", "limited")
                    ]
                    # Without both accuracies: the widest that a difference of shares can be.
                    shares = [0.5 if share is None else share for share in shares]
                    interval = difference_interval(value, shares, count)
                row["published_low"], row["published_high"] = interval
                if reason:
                    row["verdict"] = CANNOT_TELL
                    remarks.append(f"no evidence: {reason}")
                else:
                    row["verdict"] = overlap((row["low"], row["high"]), interval)
                    remarks += [caveat] if caveat else []
            row["remark"] = "; ".join(
                [*remarks, entry["evidence"]] if entry["evidence"] else remarks
            )
            row["rule"] = RULES["figure"]
            rows.append(row)
    return pd.DataFrame(rows)


def judge_deductions(deductions, reproduction, margin):
    """A row per published deduction; ``margin``: what counts as no effect, as a share.

    ``deductions``: rows of published_deductions.csv as dictionaries of texts. Columns direction and
    size are the two verdicts; relations that say only one of them leave the other empty.
    """
    rows = []
    for entry in deductions:
        ours, remark = reproduction.match(entry["experiment"])
        relation, value = entry["relation"], _number(entry["value"])
        if relation not in RULES or entry["quantity"] not in QUANTITIES:
            raise StudyError(
                f"published_deductions.csv: {entry['experiment']}: unknown relation {relation!r} or "
                f"quantity {entry['quantity']!r}; known: {', '.join(RULES)}; {', '.join(QUANTITIES)}"
            )
        remarks = [text for text in (remark, entry["note"]) if text]
        row = {key: entry[key] for key in ("experiment", "quantity", "relation", "compared_with")}
        row |= {"published": value, "value": None, "low": None, "high": None}
        row |= {"direction": "", "size": ""}
        rows.append(row)
        found, other_remark = None, ""
        if ours and entry["compared_with"]:
            other, other_remark = reproduction.match(entry["compared_with"])
            if other_remark:
                remarks.append(other_remark)
            if other:
                found = reproduction.differences.get((ours, other, QUANTITIES[entry["quantity"]]))
                found = found and {**found, "value": found["difference"]}
        elif ours and relation == "unchanged during fine-tuning":
            found = _change(reproduction, ours)
        elif ours:
            found = reproduction.figure(ours, QUANTITIES[entry["quantity"]])
        if found is None:
            row["direction"] = NOT_COMPARABLE
            if ours and not other_remark:
                remarks.append("there is no such figure of ours")
        else:
            row |= {key: found[key] for key in ("value", "low", "high")}
            row |= _verdicts(relation, value, (row["low"], row["high"]), found, margin)
        row["remark"] = "; ".join(remarks)
        row["rule"] = RULES[relation].format(margin=100 * margin)
    return pd.DataFrame(rows)


def _verdicts(relation, value, interval, found, margin):
    """{"direction": …, "size": …} of a relation, as `RULES` say."""
    if relation == "higher by":
        return {"direction": above(interval), "size": size(interval, value)}
    if relation == "lower by":
        return {"direction": below(interval), "size": size(interval, -value)}
    if relation == "higher":
        return {"direction": above(interval)}
    if relation == "below":
        return {"direction": below(interval, value)}
    if relation == "about":
        return {"size": overlap(interval, binomial_interval(value, round(found["queries"])))}
    if relation in ("no effect", "about the same as", "unchanged during fine-tuning"):
        return {"direction": equivalence(interval, margin)}
    raise ValueError(f"unknown relation {relation!r}")


def _change(reproduction, ours):
    """How much a test curve moved between its first and last point, as if of different queries."""
    curve, found = reproduction.curves[ours], reproduction.figure(ours, "test_accuracy_all_classes")
    if len(curve) < 2 or found is None:
        return None
    first, last = curve[min(curve)], curve[max(curve)]
    low, high = difference_interval(last - first, (first, last), found["queries"])
    return {"value": last - first, "low": low, "high": high}


def pairs_spoken_of(deductions, matches):
    """Our experiments that the published deductions (rows as dictionaries) compare, as pairs."""
    pairs = [
        tuple(
            matches.get(row[side], {}).get("experiment") for side in ("experiment", "compared_with")
        )
        for row in deductions
    ]
    return [pair for pair in pairs if all(pair)]


def other_size(size, published_size):
    """Why figures of ``size`` (gallery images, queries) compare with no published one; or nothing."""
    if tuple(size) == tuple(published_size):
        return ""
    return (
        f"{size[0]} gallery images and {size[1]} queries, "
        f"published were {published_size[0]} and {published_size[1]}"
    )


def _wider(row):
    """{"low", "high"}: with several seeds the wider of both intervals counts."""
    ends = [(row["low"], row["high"]), (row["seeds_low"], row["seeds_high"])]
    ends = [(low, high) for low, high in ends if low == low]
    return {
        "low": min((low for low, _ in ends), default=float("nan")),
        "high": max((high for _, high in ends), default=float("nan")),
    }
