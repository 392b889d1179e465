"""Health of a training: signs that something went wrong, or could go better, with what to try.

Signs read finished tables only. To add one, write a function that takes a `FinishedRun` and returns a
`Finding`, and add a line to `SIGNS`.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dmlstudy.evaluate.deductions import hundredths, interval_text
from dmlstudy.evaluate.intervals import binomial_interval, bootstrap, percentile_interval
from dmlstudy.evaluate.study_metrics import hits

# Kinds of findings. A warning says that the training or its result is unsound; a hint, that other values
# may give better results. Without what a sign needs (an untrained row, say), it cannot be told.
WARNING, HINT, FINE, CANNOT_TELL = "warning", "hint", "fine", "cannot tell"

# All thresholds, each with its reason. docs/health.md says what they gave on the demo and on photographs.
#
# Part of the first epoch's loss that a training must take off. The mean loss of an epoch varies by one or
# two per cent with the images that happen to share a batch, so a smaller fall may be no fall.
LEAST_FALL = 0.02
# The last epochs whose loss is averaged, as a share of all epochs.
LAST_EPOCHS = 0.1
# How far the loss may rise from its lowest epoch, as a share of the first epoch's loss. Noise is a tenth
# of that; a training that loses half of what there was to gain is leaving its minimum.
MOST_RISE = 0.5
# A curve is judged by its last quarter, but by no fewer points than a rank test needs to reach 5 %: if
# four points all rise, p is 1/24.
LAST_POINTS, FEWEST_POINTS = 0.25, 4
SIGNIFICANT = 0.05
# Gain over these points that is worth more epochs. The interval of a difference on the 2,358 queries of
# CUB-200-2011 is about one point to each side, so a smaller gain would not show in any table.
LEAST_GAIN = 0.01
# Deviation of the similarities of all pairs. Models that can be used had 0.018 or more, even with random
# weights. Below 0.01, bfloat16 (eight bits, a relative error of up to 0.004) decides who is nearest.
LEAST_SPREAD = 0.01
# Optimizer steps. BatchNorm's running statistics (momentum 0.1) still hold an eighth of those from before
# the training after 20 steps, so features of fewer steps belong to two models.
FEWEST_STEPS = 20


@dataclass(frozen=True)
class Finding:
    """What a sign says of a run: ``finding`` is `WARNING`, `HINT`, `FINE` or `CANNOT_TELL`.

    ``value`` is the figure that was compared with ``threshold``; both are NaN if there is none. ``low`` and
    ``high``: 95 % interval of the value, where it has one. ``sentence``: figure and threshold in words;
    ``try_this``: what to try, empty if nothing is wrong.
    """

    finding: str
    sentence: str
    value: float = math.nan
    threshold: float = math.nan
    low: float = math.nan
    high: float = math.nan
    try_this: str = ""


def unknown(reason):
    """The finding of a sign that lacks what it needs."""
    return Finding(CANNOT_TELL, reason)


@dataclass(frozen=True)
class FinishedRun:
    """Tables of one finished run.

    ``recipe``: of its experiment; ``summary``: its summary.json; ``curve``, ``metrics``, ``queries``: its
    tables of these names; ``seen`` (classes,): the classes that it was trained on. ``start``: name of the
    untrained row with the same backbone and initializer, and ``start_queries``: its queries.csv for the
    same seed and class set; both None if the study has no such row. ``draws``, ``bootstrap_seed``: of
    intervals.
    """

    recipe: dict
    summary: dict
    curve: pd.DataFrame
    metrics: pd.DataFrame
    queries: pd.DataFrame
    seen: np.ndarray
    start: str | None
    start_queries: pd.DataFrame | None
    draws: int
    bootstrap_seed: int

    @property
    def trained(self):
        return self.recipe["epochs"] > 0

    @property
    def limited(self):
        return not self.seen.all()

    @property
    def losses(self):
        """Mean training loss of each epoch (epochs,)."""
        return self.curve["train_loss"].to_numpy(dtype=float)

    @property
    def images(self):
        """Number of images that the model was trained on."""
        return int(self.metrics["train_samples"].to_numpy()[self.seen].sum())

    @property
    def steps(self):
        """Number of optimizer steps; see `batches.epoch_batches`."""
        batch, images = self.recipe["batch_size"], self.images
        if self.recipe["samples_per_class"]:
            return self.recipe["epochs"] * max(1, images // batch)
        alone = images > batch and images % batch == 1
        return self.recipe["epochs"] * (-(-images // batch) - alone)

    def difference(self, chosen, *, over_classes):
        """precision@1 minus that of the untrained row, over ``chosen`` queries: (value, low, high)."""
        scores = hits(self.queries, "precision_at_1") - hits(self.start_queries, "precision_at_1")
        classes = self.queries["class_id"].to_numpy()[chosen]
        samples = bootstrap(
            scores[chosen, None],
            classes=classes if over_classes else None,
            draws=self.draws,
            seed=self.bootstrap_seed,
        )
        return float(scores[chosen].mean()), *percentile_interval(samples[:, 0])

    def against_start(self, chosen, *, over_classes):
        """The difference to the untrained row, as a dictionary of floats, and in words."""
        value, low, high = self.difference(chosen, over_classes=over_classes)
        own, start = (
            hundredths(hits(table, "precision_at_1")[chosen].mean())
            for table in (self.queries, self.start_queries)
        )
        words = (
            f"{own} % against {start} % of {self.start}, its features before training: "
            f"{interval_text({'difference': value, 'low': low, 'high': high})}, "
            f"{np.count_nonzero(chosen)} queries; "
        )
        words += "worse" if high < 0 else "better" if low > 0 else "no difference shown"
        return {"value": value, "threshold": 0.0, "low": low, "high": high}, words


NO_START = (
    "the study has no untrained row with this backbone and initializer, so it cannot be told whether "
    "training improved the features"
)


def worse_than_start(run):
    """The classes that the model was trained on are recognised less well than before training."""
    if run.start is None:
        return unknown(NO_START)
    chosen = run.seen[run.queries["class_id"]]
    if not chosen.any():
        return unknown("there are no queries of the classes that the model was trained on")
    numbers, words = run.against_start(chosen, over_classes=False)
    of = " of the classes that the model was trained on" if run.limited else ""
    worse = numbers["high"] < 0
    return Finding(
        WARNING if worse else FINE,
        f"precision@1{of} is {words}",
        **numbers,
        try_this="a lower optimizer.lr (selection can choose it), a warm-up, frozen_batchnorm, or fewer "
        "epochs; if nothing helps, use the untrained features"
        if worse
        else "",
    )


def unseen_worse_than_start(run):
    """The classes that a limited model was not trained on are recognised less well than before."""
    if run.start is None:
        return unknown(NO_START)
    chosen = ~run.seen[run.queries["class_id"]]
    if not chosen.any():
        return unknown("there are no queries of unseen classes")
    numbers, words = run.against_start(chosen, over_classes=True)
    worse = numbers["high"] < 0
    return Finding(
        HINT if worse else FINE,
        f"precision@1 of unseen classes is {words}",
        **numbers,
        try_this="a lower optimizer.lr, fewer epochs or more seen classes; to enrol new classes, the "
        "untrained features are better than this model"
        if worse
        else "",
    )


def diverged(run):
    """The loss is not finite, or left its minimum again."""
    losses = run.losses
    helps = "a lower optimizer.lr (or loss_lr), a warm-up, or schedule cosine"
    if not np.isfinite(losses).all():
        epoch = int(run.curve["epoch"].to_numpy()[~np.isfinite(losses)][0])
        text = f"the training loss of epoch {epoch} is not a finite number"
        return Finding(WARNING, text, threshold=MOST_RISE, try_this=helps)
    lowest = int(losses.argmin())
    rise = (losses[-1] - losses[lowest]) / abs(losses[0]) if losses[0] else losses[-1]
    if lowest == len(losses) - 1:
        text = f"the training loss is lowest in the last epoch: {losses[-1]:.4g}"
        return Finding(FINE, text, rise, MOST_RISE)
    text = (
        f"the training loss rose from {losses[lowest]:.4g} in epoch {run.curve['epoch'].iloc[lowest]} to "
        f"{losses[-1]:.4g} in the last one, by {hundredths(rise)} % of the first epoch's loss (at most "
        f"{hundredths(MOST_RISE)} % is usual)"
    )
    bad = rise > MOST_RISE
    return Finding(WARNING if bad else FINE, text, rise, MOST_RISE, try_this=helps if bad else "")


def loss_does_not_fall(run):
    """The loss at the end is not lower than in the first epoch."""
    losses = run.losses
    if not np.isfinite(losses).all():
        return unknown("the training loss is not finite in every epoch")
    if len(losses) < 2:
        return unknown("the training has a single epoch, so its loss has nothing to fall from")
    last = losses[-max(1, round(LAST_EPOCHS * len(losses))) :].mean()
    # A loss that is 0 from the start has nothing to teach.
    fall = (losses[0] - last) / abs(losses[0]) if losses[0] else 0.0
    bad = fall < LEAST_FALL
    return Finding(
        WARNING if bad else FINE,
        f"the training loss went from {losses[0]:.4g} in the first epoch to {last:.4g} at the end, a fall "
        f"of {hundredths(fall)} % (at least {hundredths(LEAST_FALL)} % is expected)",
        fall,
        LEAST_FALL,
        try_this="another optimizer.lr, up or down by factors of ten (selection can choose it); then the "
        "labels, and whether the loss has weights that need a loss_lr"
        if bad
        else "",
    )


def still_rising(run):
    """The test accuracy still grows at the last epoch."""
    points = run.curve.dropna(subset="test_accuracy")
    if len(points) < FEWEST_POINTS:
        return unknown(
            f"the test curve has {len(points)} of the {FEWEST_POINTS} points that a trend needs; lower "
            "protocol.eval_every, or train for more epochs"
        )
    from scipy import stats

    points = points.tail(max(FEWEST_POINTS, math.ceil(LAST_POINTS * len(points))))
    epochs, accuracies = points["epoch"].to_numpy(), points["test_accuracy"].to_numpy()
    trend = stats.kendalltau(epochs, accuracies, alternative="greater").pvalue
    gain = float(stats.theilslopes(accuracies, epochs).slope) * int(epochs[-1] - epochs[0])
    # The test of equal accuracies has no p-value.
    rising = trend < SIGNIFICANT and gain >= LEAST_GAIN
    return Finding(
        HINT if rising else FINE,
        f"the test accuracy changed by {hundredths(gain)} points from epoch {epochs[0]} to {epochs[-1]} "
        f"({'a steady rise' if trend < SIGNIFICANT else 'no steady rise'}; at least "
        f"{hundredths(LEAST_GAIN)} would be a gain)",
        gain,
        LEAST_GAIN,
        try_this="more epochs, for all experiments alike: the training may have been too short"
        if rising
        else "",
    )


def few_directions(run):
    """The embeddings vary in too few directions to tell the classes apart."""
    rank = run.summary["gallery_effective_rank"]
    most = min(run.summary["embedding_dim"], run.summary["gallery"] - 1)
    # n directions tell 2ⁿ classes apart by their signs. A narrow embedding cannot have more than its width.
    threshold = min(math.log2(run.summary["classes"]), most / 2)
    bad = rank < threshold
    return Finding(
        WARNING if bad else FINE,
        f"the gallery's {run.summary['embedding_dim']}-dimensional embeddings vary in {rank:.1f} directions "
        f"(effective rank); at least {threshold:.1f} are expected for {run.summary['classes']} classes at "
        "this width",
        rank,
        threshold,
        try_this="a lower optimizer.lr, a head with BatchNorm (head: {kind: batchnorm}), or pretrained "
        "weights"
        if bad
        else "",
    )


def equal_embeddings(run):
    """The embeddings of all images are almost the same."""
    spread = run.summary["gallery_similarity_spread"]
    if spread is None:
        return unknown("the gallery has fewer than two images")
    bad = spread < LEAST_SPREAD
    return Finding(
        WARNING if bad else FINE,
        f"similarities of gallery images are {run.summary['gallery_mean_similarity']:.4f} ± {spread:.4f} "
        f"(a spread of at least {LEAST_SPREAD:g} is needed to tell images apart)",
        spread,
        LEAST_SPREAD,
        try_this="a lower optimizer.lr, a head with BatchNorm (head: {kind: batchnorm}), and whether the "
        "labels differ"
        if bad
        else "",
    )


def at_chance(run):
    """The classes that the model was trained on are not recognised more often than by chance."""
    classes = run.queries["class_id"].to_numpy()
    known = run.seen[classes]
    if not known.any():
        return unknown("there are no queries of the classes that the model was trained on")
    count, accuracy = int(known.sum()), run.summary["test_accuracy_known_classes"]
    if accuracy is None:
        return unknown("the training curve does not end with a test accuracy")
    low, high = binomial_interval(accuracy, count)
    chance = float(np.bincount(classes[known]).max() / count)
    bad = low <= chance
    return Finding(
        WARNING if bad else FINE,
        f"of {count} queries of the {run.seen.sum()} classes that the model was trained on "
        f"({run.images} images, {run.steps} steps), {hundredths(accuracy)} % [{hundredths(low)}, "
        f"{hundredths(high)}] are right; always answering the commonest class gives {hundredths(chance)} %",
        accuracy,
        chance,
        low,
        high,
        try_this="more epochs or images of each class, another optimizer.lr, pretrained weights; and look "
        "whether the labels are right"
        if bad
        else "",
    )


def few_steps(run):
    """The optimizer took too few steps."""
    bad = run.steps < FEWEST_STEPS
    return Finding(
        WARNING if bad else FINE,
        f"the model was trained on {run.images} images of {run.seen.sum()} classes in {run.steps} steps (at "
        f"least {FEWEST_STEPS} are needed)",
        run.steps,
        FEWEST_STEPS,
        try_this="more epochs, more images or smaller batches" if bad else "",
    )


@dataclass(frozen=True)
class Sign:
    """A sign: ``find(run)`` gives its `Finding`. ``title``: a few words for lists.

    ``untrained``: whether it applies to rows without training; ``limited_only``: whether it is about
    unseen classes.
    """

    find: object
    title: str
    untrained: bool = False
    limited_only: bool = False

    @property
    def name(self):
        return self.find.__name__

    def applies(self, run):
        return (run.trained or self.untrained) and (run.limited or not self.limited_only)


# In the order of tables and pages.
SIGNS = (
    Sign(worse_than_start, "worse than before training"),
    Sign(diverged, "diverged"),
    Sign(loss_does_not_fall, "loss does not fall"),
    Sign(at_chance, "at chance"),
    Sign(few_steps, "too few steps"),
    Sign(equal_embeddings, "embeddings almost equal", untrained=True),
    Sign(few_directions, "embeddings in few directions", untrained=True),
    Sign(still_rising, "still rising"),
    Sign(unseen_worse_than_start, "unseen classes worse than before training", limited_only=True),
)


def findings(run):
    """The findings of a run: a dictionary per sign that applies, with its name and title."""
    return [
        {"sign": sign.name, "title": sign.title, **vars(sign.find(run))}
        for sign in SIGNS
        if sign.applies(run)
    ]
