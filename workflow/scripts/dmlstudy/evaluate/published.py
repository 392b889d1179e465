"""Compares published metrics and deductions with ours: holds, does not hold, cannot tell.

`RULES` has the rules of the verdicts; the tables print them beside each verdict. A published metric
is compared with our experiment that has the recipe which produced it. There is a verdict only if
data set, split, epochs and recipe are the published ones.
"""

import math

import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.intervals import binomial_interval

HOLDS, DOES_NOT_HOLD, CANNOT_TELL = "holds", "does not hold", "cannot tell"
NOT_COMPARABLE = "not comparable"

RULES = {
    "metric": "holds if our 95 % interval overlaps the binomial 95 % interval of the published value "
    "at our number of queries (for a drop: the interval of a difference of two shares)",
    "higher by": "direction: holds if our interval of the difference lies above 0, does not hold if "
    "it lies below 0; size: holds if our interval contains the published difference",
    "lower by": "direction: holds if our interval of the difference lies below 0, does not hold if "
    "it lies above 0; size: holds if our interval contains the published difference",
    "higher": "holds if our interval of the difference lies above 0, does not hold if it lies below 0",
    "below": "holds if our interval lies below the published value, does not hold if it lies above",
    "about": "size: holds if our interval overlaps the binomial 95 % interval of the published value "
    "at our number of queries",
    "no effect": "holds if our interval of the difference lies within ± {margin:g} points, does not "
    "hold if it lies outside of them",
}
RULES |= {
    "about the same as": RULES["no effect"],
    "unchanged during fine-tuning": RULES["no effect"],
}

SECOND_NEIGHBOUR = (
    "the published limited model was evaluated with its second neighbour, which costs up to 3.9 "
    "points"
)
# Columns of config/published.csv: our metric; why the published value is no evidence; a caveat.
METRICS = {
    "test_accuracy_all_classes": ("test_accuracy_all_classes", "", ""),
    "test_accuracy_limited_classes": ("test_accuracy_limited_classes", "", ""),
    "drop_unseen_as_published": (
        "precision_drop_unseen_classes",
        "computed over 21 classes and with the second neighbour; see drop_unseen_last_20",
        "",
    ),
    "drop_unseen_last_20": ("precision_drop_unseen_classes", "", SECOND_NEIGHBOUR),
    "drop_seen": (
        "precision_drop_seen_classes",
        "",
        f"{SECOND_NEIGHBOUR}; with augmentation it was also tested on crops, but the all-classes model "
        "on squashed images, which costs 3 to 5 points",
    ),
}
# Quantities of config/published_deductions.csv, and our metric; each must be in COMPARED.
QUANTITIES = {
    # For an all-classes model, precision@1 is the test accuracy.
    "test_accuracy": "precision_at_1",
    "precision_drop_unseen_classes": "precision_drop_unseen_classes",
    "unseen_accuracy": "limited_precision_at_1_unseen_classes",
}


# Columns of the table of `judge_deductions`.
DEDUCTIONS = ("experiment", "quantity", "relation", "compared_with", "published", "value", "low", "high",
              "direction", "size", "remark", "rule")  # fmt: skip


def overlap(interval, other):
    """Verdict on a metric: holds if two intervals (low, high) overlap."""
    return HOLDS if interval[0] <= other[1] and other[0] <= interval[1] else DOES_NOT_HOLD


def above(interval, value=0.0):
    """Verdict on "higher than ``value``"."""
    if interval[0] > value:
        return HOLDS
    return DOES_NOT_HOLD if interval[1] < value else CANNOT_TELL


def below(interval, value=0.0):
    """Verdict on "lower than ``value``"."""
    return above((-interval[1], -interval[0]), -value)


def size(interval, value):
    """Verdict on the size of a difference: holds if the interval contains ``value``."""
    return HOLDS if interval[0] <= value <= interval[1] else DOES_NOT_HOLD


def equivalence(interval, margin):
    """Verdict on "no effect": holds if the interval lies within ± ``margin``."""
    if -margin <= interval[0] and interval[1] <= margin:
        return HOLDS
    return DOES_NOT_HOLD if interval[0] > margin or interval[1] < -margin else CANNOT_TELL


def difference_interval(difference, shares, count):
    """95 % interval of a difference of two independent shares of ``count`` trials each."""
    error = math.sqrt(sum(share * (1 - share) for share in shares) / count)
    return difference - 1.96 * error, difference + 1.96 * error


def _number(text):
    """The number in a cell of a CSV; None for an empty cell."""
    return float(text) if text != "" else None


class Reproduction:
    """Our results, with which the published ones are compared.

    ``matches``: {published experiment: {"experiment": ours or None, "why": text, "epochs":
    published number}}. ``metrics``: {(experiment, metric): {"value", "low", "high", "queries"}}.
    ``differences``: {(experiment, other, metric): {"difference", "low", "high"}}. ``curves``:
    {experiment: {epoch: test accuracy}}. ``obstacle``: why nothing is comparable, or an empty text.
    """

    def __init__(self, matches, metrics, differences, curves, obstacle=""):
        self.matches, self.metrics, self.differences = matches, metrics, differences
        self.curves, self.obstacle = curves, obstacle

    @classmethod
    def of_tables(cls, matches, metrics, differences, curves, obstacle=""):
        """Read from tables.

        ``metrics``: {experiment: its summary.csv, indexed by metric}; ``differences``: rows of
        differences.csv.
        """
        by_metric = {
            (name, metric): {**row, **_wider(row)}
            for name, table in metrics.items()
            for metric, row in table.to_dict("index").items()
        }
        by_pair = {
            (row["experiment"], row["compared_with"], row["metric"]): {**row, **_wider(row)}
            for row in differences.to_dict("records")
        }
        return cls(matches, by_metric, by_pair, curves, obstacle)

    def match(self, name):
        """(our experiment or None, remark) for a published experiment."""
        found = self.matches.get(name, {"experiment": None, "why": "unknown experiment"})
        if self.obstacle:
            return None, self.obstacle
        ours = found["experiment"]
        if ours is None:
            return None, found["why"]
        remark = "" if ours == name else f"compared with {ours}, which has the recipe that was run"
        return ours, remark

    def metric(self, ours, name):
        """Our metric, or None. The test accuracy of a classifier is its softmax accuracy."""
        if name == "test_accuracy_all_classes" and (ours, "softmax_accuracy") in self.metrics:
            name = "softmax_accuracy"
        return self.metrics.get((ours, name))


def judge_metrics(published, reproduction):
    """A row per published metric, with ours and the verdict.

    ``published``: rows of config/published.csv as dictionaries of texts.
    """
    rows = []
    for entry in published:
        name = entry["experiment"]
        ours, remark = reproduction.match(name)
        stopped = _number(entry["epochs_run"])
        for column, (metric, no_evidence, caveat) in METRICS.items():
            value = _number(entry[column])
            if value is None:
                continue
            remarks = [remark] if remark else []
            row = {
                "experiment": name,
                "metric": column,
                "published": value,
                "published_low": None,
                "published_high": None,
                "compared_with": ours or "",
                "value": None,
                "low": None,
                "high": None,
                "queries": None,
            }
            found = reproduction.metric(ours, metric) if ours else None
            reason = entry["no_evidence"] or no_evidence
            if found is None:
                row["verdict"] = NOT_COMPARABLE
                remarks += [] if remarks else [f"{ours} has no {metric}"]
            else:
                row |= {key: found[key] for key in ("value", "low", "high", "queries")}
                count = round(found["queries"])
                interrupted = stopped is not None and stopped < reproduction.matches[name]["epochs"]
                if interrupted and column == "test_accuracy_all_classes":
                    at_epoch = reproduction.curves[ours].get(int(stopped))
                    remarks.append(
                        f"our value at epoch {stopped:g}, where the notebook was stopped"
                    )
                    row["value"] = at_epoch
                    if at_epoch is None:
                        reason = reason or "our curve has no point at that epoch"
                        row["low"] = row["high"] = None
                    else:
                        row["low"], row["high"] = binomial_interval(at_epoch, count)
                elif interrupted:
                    reason = reason or f"the notebook was stopped at epoch {stopped:g}"
                if column.startswith("test_accuracy"):
                    interval = binomial_interval(value, count)
                else:
                    shares = [
                        _number(entry[f"test_accuracy_{class_set}_classes"])
                        for class_set in ("all", "limited")
                    ]
                    # A missing accuracy counts as 0.5, which gives the widest interval.
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
            row["rule"] = RULES["metric"]
            rows.append(row)
    return pd.DataFrame(rows)


def for_experiments(verdicts, experiments):
    """Which published test accuracy stands beside each of our experiments: {ours: a row}.

    ``verdicts``: the table of `judge_metrics`; ``experiments``: our names. A verdict belongs to the
    experiment that was compared, whatever name its recipe was published under. An experiment that
    was not compared gets the figure that was published under its name, not comparable; but no
    figure if that one was compared with another of our experiments. Keys of a row: experiment (the
    published name), published, verdict, remark.
    """
    table = verdicts[verdicts["metric"] == "test_accuracy_all_classes"].to_dict("records")
    found = {}
    for ours in experiments:
        # Its own name first: two published experiments may have one recipe.
        compared = [row for row in table if row["compared_with"] == ours]
        compared.sort(key=lambda row, ours=ours: row["experiment"] != ours)
        named = [row for row in table if row["experiment"] == ours]
        if compared:
            row, *others = compared
            more = [
                f"{other['experiment']} has the same recipe: {other['verdict']}" for other in others
            ]
            found[ours] = {**row, "remark": "; ".join(filter(None, [row["remark"], *more]))}
        elif named and not named[0]["compared_with"]:
            found[ours] = named[0]
        elif named:
            found[ours] = {
                "experiment": "",
                "published": math.nan,
                "verdict": NOT_COMPARABLE,
                "remark": "the figure that was published under this name is compared with "
                f"{named[0]['compared_with']}, which has the recipe that was run",
            }
    return found


def judge_deductions(deductions, reproduction, margin):
    """A row per published deduction, with our difference and the verdicts.

    ``deductions``: rows of config/published_deductions.csv as dictionaries of texts; ``margin``:
    the largest difference that counts as no effect, as a share. The columns direction and size are
    verdicts; one of them is empty if the relation says nothing about it. Raises StudyError for an
    unknown relation or quantity.
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
                remarks.append(f"{entry['compared_with']}: {other_remark}")
            if other:
                found = reproduction.differences.get((ours, other, QUANTITIES[entry["quantity"]]))
                found = found and {**found, "value": found["difference"]}
        elif ours and relation == "unchanged during fine-tuning":
            found = _change(reproduction, ours)
        elif ours:
            found = reproduction.metric(ours, QUANTITIES[entry["quantity"]])
        if found is None:
            row["direction"] = NOT_COMPARABLE
            if ours and not other_remark:
                remarks.append("we have no such metric")
        else:
            row |= {key: found[key] for key in ("value", "low", "high")}
            row |= _verdicts(relation, value, (row["low"], row["high"]), found, margin)
        row["remark"] = "; ".join(remarks)
        row["rule"] = RULES[relation].format(margin=100 * margin)
    # The columns are given, because a study may have no published conclusions.
    return pd.DataFrame(rows, columns=DEDUCTIONS)


def _verdicts(relation, value, interval, found, margin):
    """{"direction": verdict, "size": verdict} for a relation, by `RULES`."""
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
    """Difference between the last and first point of a test curve, taken as independent."""
    curve, found = reproduction.curves[ours], reproduction.metric(ours, "test_accuracy_all_classes")
    if len(curve) < 2 or found is None:
        return None
    first, last = curve[min(curve)], curve[max(curve)]
    low, high = difference_interval(last - first, (first, last), found["queries"])
    return {"value": last - first, "low": low, "high": high}


def pairs_of_deductions(deductions, matches):
    """Pairs of our experiments that the published deductions (rows as dictionaries) compare."""
    pairs = [
        tuple(
            matches.get(row[side], {}).get("experiment") for side in ("experiment", "compared_with")
        )
        for row in deductions
    ]
    return [pair for pair in pairs if all(pair)]


def other_size(size, published_size):
    """Why results with ``size`` (gallery images, queries) are not comparable; empty if they are."""
    if tuple(size) == tuple(published_size):
        return ""
    return (
        f"{size[0]} gallery images and {size[1]} queries; "
        f"the published study had {published_size[0]} and {published_size[1]}"
    )


def _wider(row):
    """{"low", "high"}: the bootstrap interval, widened to hold the t-interval over seeds."""
    ends = [(row["low"], row["high"]), (row["seeds_low"], row["seeds_high"])]
    ends = [(low, high) for low, high in ends if low == low]
    return {
        "low": min((low for low, _ in ends), default=float("nan")),
        "high": max((high for _, high in ends), default=float("nan")),
    }
