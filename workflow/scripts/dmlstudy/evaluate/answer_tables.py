"""Tables of the ways of answering: how each answers the same stored embeddings. Does not import torch."""

import contextlib
import copy
import time

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from dmlstudy.core import registry
from dmlstudy.core.canonical import canonical_json
from dmlstudy.evaluate import enrolment
from dmlstudy.evaluate.answer_hits import SOFTMAX, AnswerHits, Enrolled
from dmlstudy.evaluate.intervals import bootstrap, percentile_interval
from dmlstudy.evaluate.metrics import harmonic_mean
from dmlstudy.evaluate.rejection import reject_by

NEAREST = "nearest"
# Classes that are added alone to measure the time.
TIMED_CLASSES = 3


@contextlib.contextmanager
def one_thread():
    """Ways of answering compute on one thread: sums depend on the number of threads, and answers on sums."""
    # A limit reaches only libraries that are loaded, and the ways load these when they are built.
    import faiss  # noqa: F401
    import scipy.linalg  # noqa: F401

    with threadpool_limits(1):
        yield


def names_of(pieces):
    """A name for each way: its kind, with the parameters that tell it from others of the kind."""
    kinds = [piece["kind"] for piece in pieces]
    names = []
    for piece in pieces:
        others = [one for one in pieces if one["kind"] == piece["kind"]]
        differing = [
            key for key in sorted(piece) if any(one.get(key) != piece[key] for one in others)
        ]
        shown = ", ".join(f"{key}={piece[key]}" for key in differing)
        names.append(
            f"{piece['kind']} ({shown})" if kinds.count(piece["kind"]) > 1 else piece["kind"]
        )
    return names


def built(piece):
    """The way of answering of a piece: an `answers.answer.Answer`."""
    return registry.load("answer", piece["kind"])(
        **{key: value for key, value in piece.items() if key != "kind"}
    )


def parameters_of(piece, way):
    """Parameters of a way as text, with what it chose."""
    values = {key: value for key, value in piece.items() if key != "kind"} | way.chosen
    # Sums depend on the number of threads in the last digits.
    return canonical_json(
        {
            key: float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in values.items()
        }
    )


class Run:
    """The stored embeddings of a run: ``gallery``, ``queries``, and classes and image ids of each.

    ``embeddings``: see `retrieval.read_embeddings`. ``weights``: {class id: vector (dim,)} that its loss
    learnt, None if it has none; ``learnt``: how many numbers these are, biases included.
    """

    def __init__(self, embeddings, class_ids):
        self.weights, self.learnt = None, 0
        if "classifier_weights" in embeddings:
            learnt = embeddings["classifier_weights"].astype(np.float64)
            classes = embeddings["classifier_class_ids"].tolist()
            self.weights = dict(zip(classes, learnt, strict=True))
            self.learnt = learnt.size + np.size(embeddings.get("classifier_bias", ()))
        self.gallery, self.queries = (
            embeddings[f"{role}_embeddings"].astype(np.float32, copy=False)
            for role in ("gallery", "query")
        )
        self.gallery_ids = embeddings["gallery_image_ids"]
        self.gallery_classes = class_ids[self.gallery_ids]
        self.query_classes = class_ids[embeddings["query_image_ids"]]
        # Of a classifier: the class of each query by its softmax.
        self.softmax = embeddings.get("query_softmax_class_ids")

    def fitted(self, piece, rows, base):
        way = built(piece)
        if way.needs_weights:
            way.with_weights(self.weights)
        return way.fit(
            self.gallery[rows],
            self.gallery_classes[rows],
            base=base,
            image_ids=self.gallery_ids[rows],
        )

    def added(self, way, rows):
        """A copy of ``way`` to which gallery ``rows`` are added."""
        way = copy.copy(way)
        if len(rows):
            way.add(
                self.gallery[rows], self.gallery_classes[rows], image_ids=self.gallery_ids[rows]
            )
        return way


def answer_experiment(
    datasets,
    seeds,
    read_run,
    pieces,
    *,
    enrolment_images,
    enrolment_draws,
    bootstrap_draws,
    bootstrap_seed,
):
    """How each way answers the runs of an experiment: ({name: table} of three tables, `AnswerHits`).

    ``datasets``: a `Dataset` per class set, the one with all classes first; ``read_run(seed, class_set)``
    returns embeddings, see `Run`; ``pieces``: complete pieces of the ways, the nearest neighbour first. Ways that need class weights are left out if there are
    none. The other arguments are keys of ``evaluation`` in the configuration. A limited
    model's way is fitted on its seen classes; unseen classes are added. ``answers``: a row per seed, class
    set and way; ``answers_enrolment``: a row per number of enrolled images of each unseen class, as in
    enrolment.csv; ``answers_costs``: times. docs/tables.md has the columns.
    """
    full, *limited = datasets
    sampling = {"draws": bootstrap_draws, "seed": bootstrap_seed}
    tables = {"answers": [], "answers_enrolment": [], "answers_costs": []}
    trained, enrolled = [], {dataset.class_set: [] for dataset in limited}
    for seed in seeds:
        run = Run(read_run(seed, full.class_set), full.class_ids)
        if run.weights is None:
            pieces = [piece for piece in pieces if not built(piece).needs_weights]
        everything = np.arange(len(run.gallery))
        right, rows = [], []
        for piece, name in zip(pieces, names_of(pieces), strict=True):
            way = run.fitted(piece, everything, None)
            right.append(way.answers(run.queries)[0] == run.query_classes)
            keys = {"seed": seed, "class_set": full.class_set, "answer": name}
            rows.append(keys | {"parameters": parameters_of(piece, way)})
        oracle = np.column_stack(right)
        tables["answers"] += _with_accuracies(rows, oracle, sampling)
        trained_answers = names_of(pieces)
        if run.softmax is not None:
            right.append(run.softmax == run.query_classes)
            trained_answers = [*trained_answers, SOFTMAX]
        trained.append(np.array(right))
        learnt = run.learnt
        for dataset in limited:
            run = Run(read_run(seed, dataset.class_set), dataset.class_ids)
            of_set, of_queries = _limited(
                run, seed, dataset, pieces, oracle, sampling, enrolment_images, enrolment_draws
            )
            for name, found in of_set.items():
                tables[name] += found
            enrolled[dataset.class_set].append(of_queries)
    hits = AnswerHits(
        run.query_classes, names_of(pieces), trained_answers, np.array(trained), learnt
    )
    for class_set, of_seeds in enrolled.items():
        first = of_seeds[0]
        hits.enrolled[class_set] = Enrolled(
            first.photographs, first.draws, np.array([one.hits for one in of_seeds])
        )
    return {name: pd.DataFrame(rows) for name, rows in tables.items()}, hits


def _limited(run, seed, dataset, pieces, oracle, sampling, images, draws):
    """(rows of all tables, `Enrolled` without seeds) of one limited model.

    ``oracle``: hits of the all-classes model (m, ways).
    """
    seen = dataset.seen
    known = seen[run.query_classes]
    own = seen[run.gallery_classes]
    unseen_rows = np.flatnonzero(~own)
    planned = enrolment.plan(run.gallery_classes, unseen_rows, images, draws, sampling["seed"])
    rows, points, hits, costs, right, counts, best = [], [], [], [], [], [], []
    for piece, name in zip(pieces, names_of(pieces), strict=True):
        keys = {"seed": seed, "class_set": dataset.class_set, "answer": name}
        begun = time.perf_counter()
        way = run.fitted(piece, np.flatnonzero(own), np.flatnonzero(seen))
        way.scores(run.queries[:1])
        fitted = time.perf_counter() - begun
        prepared = way.prepare(run.queries)
        best.append(way.answers(prepared)[1])
        for size, drawn in planned:
            answers = np.array([run.added(way, one).answers(prepared)[0] for one in drawn])
            of_size = answers == run.query_classes
            hits.append(of_size[:, ~known].mean(axis=0))
            counts.append(of_size.sum(axis=0))
            point = keys | {"images_per_class": size, "draws": len(drawn)}
            points.append(point | enrolment.accuracies(of_size, known, seen))
        # The last size is all images: the whole gallery.
        right.append(of_size[0])
        rows.append(keys | {"parameters": parameters_of(piece, way)})
        costs.append(keys | {"seconds_to_fit": fitted} | _times(run, way, unseen_rows))
    rejections = reject_by(
        [(one[known], one[~known]) for one in best],
        known_classes=run.query_classes[known],
        unknown_classes=run.query_classes[~known],
        **sampling,
    )
    for row, (rejection, _) in zip(rows, rejections, strict=True):
        for key in ("auroc", "auroc_low", "auroc_high"):
            row[f"rejection_{key}"] = rejection[key]
    enrolment.add_intervals(points, hits, run.query_classes[~known], **sampling)
    right = np.column_stack(right)
    _with_accuracies(rows, right, sampling)
    _with_parts(rows, right, oracle, run.query_classes, known, sampling)
    of_queries = Enrolled(
        [str(size) for size, _ in planned],
        [len(drawn) for _, drawn in planned],
        np.array(counts, dtype=np.uint16).reshape(len(pieces), len(planned), len(known)),
    )
    return {"answers": rows, "answers_enrolment": points, "answers_costs": costs}, of_queries


def _times(run, way, unseen_rows):
    """Columns of answers_costs.csv about adding a class and answering."""
    seconds, images = [], []
    for class_id in np.unique(run.gallery_classes[unseen_rows])[:TIMED_CLASSES]:
        rows = unseen_rows[run.gallery_classes[unseen_rows] == class_id]
        begun = time.perf_counter()
        run.added(way, rows).scores(run.queries[:1])
        seconds.append(time.perf_counter() - begun)
        images.append(len(rows))
    begun = time.perf_counter()
    way.answers(run.queries)
    answered = time.perf_counter() - begun
    return {
        "seconds_to_add_a_class": float(np.median(seconds)) if seconds else np.nan,
        "images_of_that_class": float(np.median(images)) if images else np.nan,
        "milliseconds_a_query": 1000 * answered / len(run.queries),
        "dimensions": run.gallery.shape[1],
    }


def _with_accuracies(rows, right, sampling):
    """Add accuracy on all queries, and its difference to the first way, to the row of each way.

    ``right``: booleans (queries, ways).
    """
    samples = bootstrap(right, **sampling)
    for column, row in enumerate(rows):
        row["queries"] = len(right)
        _put(row, "precision_at_1", right[:, column].mean(), samples[:, column])
        difference = right[:, column].mean() - right[:, 0].mean()
        _put(row, "difference_to_nearest", difference, samples[:, column] - samples[:, 0])
    return rows


def _with_parts(rows, right, oracle, classes, known, sampling):
    """Add figures of seen and unseen classes, resampled as those of summary.csv; see `study_metrics`."""
    ways = right.shape[1]
    of_seen = bootstrap(right[known], **sampling)
    unseen = right[~known].astype(float)
    # The drop is a mean over classes of the differences within each.
    sizes = np.bincount(classes[~known], minlength=classes.max() + 1)[classes[~known]]
    lost = (oracle[~known] - unseen) / sizes[:, None]
    weights = np.repeat(1 / sizes[:, None], ways, axis=1)
    of_unseen = bootstrap(
        np.column_stack([unseen, lost]),
        np.column_stack([np.ones_like(unseen), weights]),
        classes=classes[~known],
        **sampling,
    )
    for column, row in enumerate(rows):
        parts = right[known, column].mean(), unseen[:, column].mean()
        samples = of_seen[:, column], of_unseen[:, column]
        _put(row, "precision_at_1_seen_classes", parts[0], samples[0])
        _put(row, "precision_at_1_unseen_classes", parts[1], samples[1])
        _put(row, "harmonic_mean", harmonic_mean(*parts), harmonic_mean(*samples))
        drop = lost[:, column].sum() / weights[:, column].sum()
        _put(row, "precision_drop_unseen_classes", drop, of_unseen[:, ways + column])


def _put(row, name, value, samples):
    row[name] = float(value)
    row[f"{name}_low"], row[f"{name}_high"] = percentile_interval(samples)
