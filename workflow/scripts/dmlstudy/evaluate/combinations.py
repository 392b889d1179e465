"""Which features and which way of answering serve: tables over experiments that were not fitted.

A *combination* is an experiment, for its features, with one of its ways of answering. All combinations answer the same
queries, so they are compared in pairs. Everything comes from tables of the experiments. Torch is not
imported.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.evaluate.enrolment import ALL
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.metrics import harmonic_mean
from dmlstudy.evaluate.thresholds import HELD_OUT

# Figures of accuracy.csv. Precision@1 of all queries, all classes being known from the start; of queries of
# seen and of unseen classes, the unseen ones being added; the harmonic mean of these two.
KNOWN, SEEN, UNSEEN, BOTH = "all_classes", "seen_classes", "unseen_classes", "harmonic_mean"
# What tells a query from others: its place among the queries, and its class.
QUERY = ["query", "class_id"]
KEYS = ["seed", "class_set", "images_per_class", *QUERY, "seen"]
# Wanted share of accepted photographs of enrolled classes at the threshold that is judged.
ACCEPTED = 0.95


def joined_queries(hits, seen, full):
    """Which queries all combinations answer right: a column per combination, an index of `KEYS`.

    Values are shares of the draws of enrolled images. With fewer images than all, only queries of unseen
    classes have rows. ``hits``: {experiment: its `answer_hits.AnswerHits`}; ``seen``: {limited class set:
    boolean mask over class ids}; ``full``: name of the class set with all classes. Raises ValueError if
    the experiments answered different queries.
    """
    parts = {name: _queries(of_experiment, seen, full) for name, of_experiment in hits.items()}
    first, *others = (part.index for part in parts.values())
    if not all(first.equals(other) for other in others):
        raise ValueError("the experiments answered different queries")
    return pd.concat(parts, axis=1)


def _queries(hits, seen, full):
    classes, parts = hits.query_classes, []

    def add(seed, class_set, size, known, shares, chosen=slice(None)):
        """``shares``: (ways, queries)."""
        keys = {"seed": seed, "class_set": class_set, "images_per_class": size}
        of_query = {
            "query": np.arange(len(classes)),
            "class_id": classes,
            "seen": known.astype(int),
        }
        table = pd.DataFrame(keys | of_query | dict(zip(hits.answers, shares, strict=True)))
        parts.append(table[chosen])

    for seed, trained in enumerate(hits.trained):
        everything = np.ones(len(classes), dtype=bool)
        # Behind the ways may stand a classifier's own answers.
        add(seed, full, ALL, everything, trained[: len(hits.answers)].astype(float))
        for name, mask in seen.items():
            one, known = hits.enrolled[name], mask[classes]
            for place, (size, draws) in enumerate(zip(one.photographs, one.draws, strict=True)):
                chosen = slice(None) if size == ALL else ~known
                add(seed, name, size, known, one.hits[seed, :, place] / draws, chosen)
    return pd.concat(parts).set_index(KEYS)


@dataclass(frozen=True)
class Figure:
    """A figure of all combinations: ``values`` (c,), ``samples`` of the bootstrap (draws, c), and how many
    different ``queries`` and ``classes`` enter it."""

    values: np.ndarray
    samples: np.ndarray
    queries: int
    classes: int


def figure_of(part, *, over_classes, draws, seed):
    """The `Figure` of some rows of `joined_queries`: the mean over class sets of each one's mean.

    ``over_classes``: resample classes and then their queries; else queries. Each query is resampled with
    all of its rows.
    """
    sets = part.groupby(["seed", "class_set"], sort=False)
    weights = 1 / (sets.ngroups * sets[[part.columns[0]]].transform("size"))
    hits = part.mul(weights, axis=0).groupby(QUERY).sum()
    weights = weights.groupby(QUERY).sum().to_numpy()[:, None]
    class_ids = hits.index.get_level_values("class_id").to_numpy()
    samples = bootstrap(
        hits.to_numpy(),
        np.repeat(weights, hits.shape[1], axis=1),
        classes=class_ids if over_classes else None,
        draws=draws,
        seed=seed,
    )
    values = hits.to_numpy().sum(axis=0) / weights.sum()
    return Figure(values, samples, len(hits), len(np.unique(class_ids)))


def combined(seen, unseen):
    """The `Figure` of the harmonic mean of two."""
    return Figure(
        harmonic_mean(seen.values, unseen.values),
        harmonic_mean(seen.samples, unseen.samples),
        max(seen.queries, unseen.queries),
        max(seen.classes, unseen.classes),
    )


def combination_table(queries, full, *, draws, seed):
    """The table combinations/accuracy.csv; docs/tables.md has its columns.

    ``queries``: see `joined_queries`; ``full``: name of the class set with all classes; ``draws``, ``seed``:
    of the bootstrap. Limited class sets count alike.
    """
    sampling = {"draws": draws, "seed": seed}
    of_full = queries.index.get_level_values("class_set") == full
    found = {(KNOWN, ALL): figure_of(queries[of_full], over_classes=False, **sampling)}
    limited = queries[~of_full]
    seen = limited.index.get_level_values("seen") == 1
    sizes = limited.index.get_level_values("images_per_class")
    for size in _common_sizes(limited):
        part = limited[(sizes == size) & ~seen]
        found[UNSEEN, size] = figure_of(part, over_classes=True, **sampling)
    part = limited[(sizes == ALL) & seen]
    found[SEEN, ALL] = figure_of(part, over_classes=False, **sampling)
    found[BOTH, ALL] = combined(found[SEEN, ALL], found[UNSEEN, ALL])
    rows = []
    for (name, size), figure in found.items():
        # The first of equal ones.
        best = int(figure.values.argmax())
        differences = figure.samples - figure.samples[:, [best]]
        for column, (experiment, answer) in enumerate(queries.columns):
            low, high = percentile_interval(figure.samples[:, column])
            least, most = percentile_interval(differences[:, column])
            rows.append(
                {
                    "figure": name,
                    "images_per_class": size,
                    "experiment": experiment,
                    "answer": answer,
                    "value": figure.values[column],
                    "low": low,
                    "high": high,
                    "best": int(column == best),
                    "difference_to_best": figure.values[column] - figure.values[best],
                    "difference_to_best_low": least,
                    "difference_to_best_high": most,
                    "queries": figure.queries,
                    "classes": figure.classes,
                }
            )
    return pd.DataFrame(rows)


def _common_sizes(limited):
    """Numbers of enrolled images that every class set has; small classes have fewer of them."""
    index = limited.index.to_frame(index=False)
    sets = index.groupby("images_per_class", sort=False)["class_set"].nunique()
    return sets.index[sets == sets.max()].tolist()


def stranger_table(answers, thresholds, full):
    """The table combinations/strangers.csv; docs/tables.md has its columns.

    ``answers``, ``thresholds``: {experiment: its answers.csv, rejection_thresholds.csv}; ``full``: see
    `combination_table`. Thresholds are those of the similarity to the nearest image.
    """
    rows = []
    for experiment, table in answers.items():
        limited = table[table["class_set"] != full]
        judged = thresholds[experiment]
        judged = judged[
            (judged["model"] == judged["class_set"])
            & (judged["way"] == HELD_OUT)
            & np.isclose(judged["accepted_share"], ACCEPTED)
        ]
        for answer, of_way in limited.groupby("answer", sort=False):
            row = {"experiment": experiment, "answer": answer, "draws": len(of_way)}
            row |= _over_draws("auroc", of_way["rejection_auroc"])
            own = judged if answer == NEAREST else judged[:0]
            row |= _over_draws("called_unknown", 1 - own["accepted_unknown_classes"])
            row |= _over_draws("accepted_seen_classes", own["accepted_seen_classes"])
            rows.append(row)
    return pd.DataFrame(rows)


def _over_draws(name, values):
    """Mean over draws of unseen classes, and the least and largest; NaN without any."""
    values = values.dropna()
    return {
        name: values.mean(),
        f"{name}_least": values.min(),
        f"{name}_most": values.max(),
    }


def cost_table(costs, features):
    """The table combinations/costs.csv: times differ from run to run, so no other table has them.

    ``costs``: {experiment: its answers_costs.csv}; ``features``: {experiment: cost.json of its features}.
    """
    rows = []
    for experiment, table in costs.items():
        own = features[experiment]
        for answer, of_way in table.groupby("answer", sort=False):
            medians = of_way[
                [
                    "seconds_to_fit",
                    "seconds_to_add_a_class",
                    "images_of_that_class",
                    "milliseconds_a_query",
                ]
            ].median()
            rows.append(
                {
                    "experiment": experiment,
                    "answer": answer,
                    "device": own["device"],
                    "dimensions": own["dimensions"],
                    "images": own["images"],
                    "seconds_of_features": own["total_seconds"],
                    "milliseconds_a_photograph": 1000 * own["total_seconds"] / own["images"],
                    **medians.to_dict(),
                }
            )
    return pd.DataFrame(rows)
