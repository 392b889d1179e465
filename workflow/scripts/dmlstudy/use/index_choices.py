"""What an index knows beside its images: the threshold of "unknown", and the probability of being right.

Both are chosen on images that the model was not fitted to, if there are any; see docs/rejection.md.
"""

from dataclasses import dataclass, field

import numpy as np

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.calibration import Calibration, calibrate
from dmlstudy.evaluate.scores.case import Enrolled
from dmlstudy.evaluate.scores.pieces import score_images
from dmlstudy.evaluate.thresholds import (
    HELD_OUT,
    OWN,
    reached_by,
    similarities_to_others,
)

# What index.json says of the images that a threshold was chosen on, by way.
CHOSEN = {
    OWN: "the largest similarity that accepted_share of the images reach with their nearest other image; "
    "training images of the indexed classes only, before enrolment",
    HELD_OUT: "the largest similarity that accepted_share of the images reach with their nearest other image; "
    "training images of classes that the model was not trained on, among all training images",
    "limited": "the threshold of the limited models, mean over them: the largest similarity that accepted_share of "
    "their training images of classes that they were not trained on reach with their nearest other image",
}


@dataclass(frozen=True)
class Images:
    """Gallery images of one model: ``vectors`` float32 (m, dim), L2-normalised; ``class_ids`` (m,);
    ``held_out``: boolean (m,), those of classes that the model was not trained on."""

    vectors: np.ndarray
    class_ids: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Choice:
    """How an index gets its threshold.

    ``share``: wanted share of accepted photographs of enrolled classes; ``way``: one of `thresholds.WAYS`;
    ``limited``: `Images` of the limited models, for a model without held-out classes.
    """

    share: float
    way: str = OWN
    limited: list = field(default_factory=list)


def choose(images, indexed, choice, threads=None):
    """(threshold, calibration) of an index, as index.json holds them; the calibration may be None.

    ``images``: the `Images` of the run; ``indexed``: boolean (m,), those that the index gets; ``choice``: a
    `Choice`. Raises StudyError if no image is left to choose on.
    """
    if choice.way == OWN:
        images = Images(
            *(one[indexed] for one in (images.vectors, images.class_ids, images.held_out))
        )
    similarities = similarities_to_others(images.vectors, threads)
    rows, kind = np.ones(len(similarities), dtype=bool), choice.way
    if choice.way == OWN:
        value = reached_by(similarities, choice.share)
    elif images.held_out.any():
        rows = images.held_out
        value = reached_by(similarities[rows], choice.share)
    else:
        kind = "limited"
        value = _threshold_of_limited(choice, threads)
    chosen_on = int(rows.sum())
    if kind == "limited":
        chosen_on = sum(int(one.held_out.sum()) for one in choice.limited)
    threshold = {
        "similarity": value,
        "accepted_share": choice.share,
        "images": chosen_on,
        "way": choice.way,
        "chosen": CHOSEN[kind],
    }
    return threshold, _calibration(images, rows)


def _threshold_of_limited(choice, threads):
    """The threshold of the limited models, mean over them.

    Models of one recipe have similarities of one scale. The place among the training images would not do: a
    model that has learnt them by heart has all of them far above the threshold.
    """
    usable = [one for one in choice.limited if one.held_out.any()]
    if not usable:
        raise StudyError(
            "the model was trained on all classes, and there is no limited model to choose a threshold with; give "
            "embeddings and class sets of limited models (--limited, --limited-sets), or set index.threshold to "
            "own_images (--threshold own_images), which accepts fewer new photographs than the wanted share"
        )
    found = [
        reached_by(similarities_to_others(one.vectors, threads)[one.held_out], choice.share)
        for one in usable
    ]
    return float(np.mean(found))


def _calibration(images, rows):
    """The probability of a right answer by the margin, fitted on some of the images; None if it cannot be."""
    enrolled = Enrolled(images.vectors, images.class_ids)
    scores, nearest = score_images(
        images.vectors[rows], enrolled, own=np.flatnonzero(rows), names=("margin",)
    )
    found = calibrate(scores["margin"], nearest == images.class_ids[rows])
    if found is None:
        return None
    return {
        "score": "margin",
        "slope": found.slope,
        "intercept": found.intercept,
        "images": int(rows.sum()),
        "held_out": bool(images.held_out[rows].all()),
    }


def probabilities(calibration, embeddings, gallery, class_ids):
    """Probabilities (n,) that the nearest images of embeddings (n, dim) have their class; NaN if unknown.

    ``calibration``: of `choose`, or None; ``gallery`` (m, dim), ``class_ids`` (m,): the index.
    """
    if calibration is None:
        return np.full(len(embeddings), np.nan)
    found = Calibration(calibration["slope"], calibration["intercept"])
    # Both are tensors where a model has just computed them. Scores know NumPy only.
    images, vectors = np.asarray(embeddings), np.asarray(gallery)
    scores, _ = score_images(images, Enrolled(vectors, class_ids), names=("margin",))
    return found(scores["margin"])


def in_words(threshold, calibration):
    """Sentences for people: how a threshold and a probability of index.json were chosen."""
    share = f"{100 * threshold['accepted_share']:g} %"
    way = threshold.get("way", OWN)
    if way == OWN:
        text = (
            f"threshold: accepts {share} of the index's own {threshold['images']} images, each compared with the "
            "others; fewer new photographs of known classes"
        )
    else:
        text = (
            f"threshold: chosen to accept {share} of new photographs of enrolled classes, on {threshold['images']} "
            "images of classes that the model was not trained on"
        )
        if threshold["chosen"] == CHOSEN["limited"]:
            text = text.replace("that the model was", "that the limited models of its recipe were")
    if calibration is None:
        return f"{text}; this index has no probability of being right"
    if not calibration["held_out"]:
        text += "; probability: fitted on images that the model was trained on, so rather too high for new classes"
    return text
