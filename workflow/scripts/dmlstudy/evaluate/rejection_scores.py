"""Tables of an experiment: how well scores reject, and whether thresholds keep their rate.

See docs/rejection.md. Everything comes from stored embeddings. Torch is not imported.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from dmlstudy.evaluate import selective
from dmlstudy.evaluate.calibration import calibrate, expected_calibration_error
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.rejection import intervals_of_means, reject_by
from dmlstudy.evaluate.scores.case import Enrolled
from dmlstudy.evaluate.scores.pieces import SCORES, score_images
from dmlstudy.evaluate.search import nearest_neighbours
from dmlstudy.evaluate.thresholds import (
    HELD_OUT,
    OWN,
    WAYS,
    judged_halves,
    reached_by,
)

# Wanted shares of accepted photographs of enrolled classes, in rejection_thresholds.csv.
WANTED = (0.9, 0.95, 0.99)
# Random halves of the unseen classes that judge a threshold chosen without them.
HALVES = 20


class Model:
    """The images of one model, and their scores.

    ``embeddings``, ``class_ids``: as for `retrieval.answer_queries`; ``held_out``: boolean mask over classes,
    those whose images the model was not fitted to; ``names``: the scores that are wanted.
    """

    def __init__(self, embeddings, class_ids, held_out, *, names=tuple(SCORES), threads=None):
        self.held_out, self.names, self.threads = held_out, names, threads
        self.gallery, self.gallery_ids = (
            embeddings[f"gallery_{what}"] for what in ("embeddings", "image_ids")
        )
        self.gallery_classes = class_ids[self.gallery_ids]
        self.query_classes = class_ids[embeddings["query_image_ids"]]
        self.queries = embeddings["query_embeddings"]
        self.enrolled = Enrolled(self.gallery, self.gallery_classes)

    @cached_property
    def images(self):
        """`score_images` of the gallery's images, each left out of the gallery."""
        own = np.arange(len(self.gallery))
        return score_images(self.gallery, self.enrolled, own=own, names=self.names)

    @cached_property
    def query_scores(self):
        """{score: scores of the queries} with all classes enrolled."""
        return score_images(self.queries, self.enrolled, names=self.names)[0]

    def scores_among(self, chosen):
        """The same with some classes enrolled alone; ``chosen``: boolean mask over classes."""
        rows = chosen[self.gallery_classes]
        enrolled = Enrolled(self.gallery[rows], self.gallery_classes[rows])
        return score_images(self.queries, enrolled, names=self.names)[0]

    @cached_property
    def unbiased(self):
        """Boolean mask over gallery images: those of held-out classes."""
        return self.held_out[self.gallery_classes]

    def answers_right(self, chosen=None):
        """Whether the nearest image of each query has its class; ``chosen``: mask over classes to search."""
        rows = slice(None) if chosen is None else chosen[self.gallery_classes]
        classes = self.gallery_classes[rows]
        found = nearest_neighbours(
            self.queries,
            self.gallery[rows],
            ids=self.gallery_ids[rows],
            threads=self.threads,
        )[1]
        return classes[found[:, 0]] == self.query_classes

    @cached_property
    def right(self):
        return self.answers_right()

    @cached_property
    def calibrations(self):
        """({score: `Calibration` or None}, which images they were fitted on, their number)."""
        rows = self.unbiased if self.unbiased.any() else np.ones_like(self.unbiased)
        scores, nearest = self.images
        right = nearest == self.gallery_classes
        found = {name: calibrate(values[rows], right[rows]) for name, values in scores.items()}
        return found, HELD_OUT if self.unbiased.any() else OWN, int(rows.sum())


def score_rows(model, seen, among, *, draws, seed):
    """Rows of rejection_scores.csv for one `Model`.

    ``seen``: mask over classes, those that are enrolled; ``among``: the model's `scores_among` these.
    """
    known = seen[model.query_classes]
    right = model.answers_right(seen)[known]
    classes = model.query_classes[known], model.query_classes[~known]
    both = {name: (scores[known], scores[~known]) for name, scores in among.items()}
    complete = known.any() and not known.all()
    sides = {"known_classes": classes[0], "unknown_classes": classes[1]}
    options = {"draws": draws, "seed": seed}
    rejections = reject_by(list(both.values()), **sides, **options)
    resampled, areas = {}, {}
    if complete:
        resampled = selective.resampled_intervals(both, right, *classes, **options)
        found = [selective.oscr(of_known, right, other) for of_known, other in both.values()]
        ends = intervals_of_means([parts for _, *parts in found], *classes, **options)
        areas = dict(zip(both, zip((area for area, *_ in found), ends, strict=True), strict=True))
    calibrations, fitted_on, images = model.calibrations
    for (name, (of_known, _)), (metrics, _) in zip(both.items(), rejections, strict=True):
        row = {"score": name}
        row |= {key: metrics[key] for key in ("auroc", "auroc_low", "auroc_high")}
        key = "false_positive_rate_at_95_tpr"
        row |= _with_interval(key, metrics[key], resampled.get(name, {}).get(key))
        row |= _with_interval("oscr_area", *areas.get(name, (np.nan,)))
        key = "risk_coverage_area"
        area = selective.risk_coverage(of_known, right) if len(right) else np.nan
        row |= _with_interval(key, area, resampled.get(name, {}).get(key))
        row["known_accuracy"] = float(right.mean()) if len(right) else np.nan
        row |= {"known_queries": int(known.sum()), "unknown_queries": int((~known).sum())}
        row |= {"calibrated_on": fitted_on, "calibration_images": images}
        calibration = calibrations[name]
        for suffix, rows in (("", np.ones_like(known)), ("_unseen_classes", ~known)):
            row[f"calibration_error{suffix}"] = np.nan
            if calibration is not None:
                probabilities = calibration(model.query_scores[name][rows])
                error = expected_calibration_error(probabilities, model.right[rows])
                row[f"calibration_error{suffix}"] = error
        yield row


def _with_interval(key, value, interval=None):
    low, high = (np.nan, np.nan) if interval is None else interval
    return {key: value, f"{key}_low": low, f"{key}_high": high}


def threshold_rows(model, limited, seen, among, *, draws, seed):
    """Rows of rejection_thresholds.csv for one `Model`, judged by the queries.

    ``limited``: the limited `Model` of the same recipe and seed, from which a model without held-out classes
    takes its threshold; ``seen``: the limited model's mask over classes; ``among``: see `score_rows`.
    """
    scores = model.images[0]["similarity"]
    whole = model.query_scores["similarity"]
    unseen_query = ~seen[model.query_classes]
    # Unknown: an unseen class while only the seen ones are enrolled.
    unknown = among["similarity"]
    source = model if model.unbiased.any() else limited

    def threshold(way, share, without):
        """None if no image is left to choose on."""
        if way == OWN:
            return reached_by(scores, share)
        rows = source.unbiased & ~np.isin(source.gallery_classes, without)
        return reached_by(source.images[0]["similarity"][rows], share) if rows.any() else None

    halves = list(judged_halves(np.flatnonzero(~seen), HALVES, seed))
    for way in WAYS:
        rows = source.unbiased if way == HELD_OUT else np.ones(len(scores), dtype=bool)
        chosen_on = source.gallery_classes[rows]
        for share in WANTED:
            value = threshold(way, share, ())
            if value is None:
                continue
            accepted = whole >= value
            row = {"way": way, "accepted_share": share, "threshold": value}
            row |= {"images": int(rows.sum()), "classes": len(np.unique(chosen_on))}
            row["accepted_seen_classes"] = _mean(accepted[~unseen_query])
            row |= _with_interval(
                "accepted_unseen_classes",
                _mean(accepted[unseen_query]),
                _interval(accepted[unseen_query], model.query_classes[unseen_query], draws, seed),
            )
            of_halves, of_unknown = [], []
            for half in halves:
                other = threshold(way, share, half)
                judged = np.isin(model.query_classes, half)
                if other is not None and judged.any():
                    of_halves.append(np.mean(whole[judged] >= other))
                    of_unknown.append(np.mean(unknown[judged] >= other))
            row["accepted_other_unseen_classes"] = _mean(of_halves)
            row["accepted_unknown_classes"] = _mean(of_unknown)
            yield row


def _mean(values):
    return float(np.mean(values)) if len(values) else np.nan


def _interval(accepted, classes, draws, seed):
    if not len(accepted):
        return None
    samples = bootstrap(accepted[:, None].astype(float), classes=classes, draws=draws, seed=seed)
    return percentile_interval(samples[:, 0])


def score_experiment(
    datasets, seeds, read_run, *, untrained, draws, seed, threads, names=tuple(SCORES)
):
    """The two tables of an experiment: (rejection scores, thresholds).

    ``datasets``: a `Dataset` per class set, the one with all classes first; ``read_run(seed, class_set)``
    returns embeddings; ``untrained``: the model was not fitted to any image of the data set; ``draws``,
    ``seed``: of the bootstrap; ``names``: the scores that are wanted, ``similarity`` among them. Columns: see
    docs/tables.md.
    """
    full, *limited = datasets
    tables = [], []
    for run_seed in seeds:
        fitted = np.zeros_like(full.seen) | untrained
        options = {"names": names, "threads": threads}
        oracle = Model(read_run(run_seed, full.class_set), full.class_ids, fitted, **options)
        for dataset in limited:
            own = oracle
            # The limited model of an untrained row is the same model: score its images once.
            if not untrained:
                embeddings = read_run(run_seed, dataset.class_set)
                own = Model(embeddings, full.class_ids, ~dataset.seen, **options)
            for name, model in ((dataset.class_set, own), (full.class_set, oracle)):
                among = model.scores_among(dataset.seen)
                keys = {"seed": run_seed, "class_set": dataset.class_set, "model": name}
                for table, rows in zip(
                    tables,
                    (
                        score_rows(model, dataset.seen, among, draws=draws, seed=seed),
                        threshold_rows(model, own, dataset.seen, among, draws=draws, seed=seed),
                    ),
                    strict=True,
                ):
                    table.extend({**keys, **row} for row in rows)
    return tuple(pd.DataFrame(table) for table in tables)
