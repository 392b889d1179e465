"""What the configuration may say about the evaluation."""

from typing import Literal

from annotated_types import Ge, Le
from pydantic import Field

from dmlstudy.plan.setting_types import Piece, Seed, Share, Strict, different, whole

# All ways of answering, each with its defaults, in the order of tables. The nearest neighbour is the first.
ANSWERS = (
    "nearest",
    "weighted_neighbours",
    "class_mean",
    "centred_class_mean",
    "calibrated_class_mean",
    "imprinted_classifier",
    "lda",
    "random_projection_ridge",
)


# All scores of rejection, in the order of tables.
REJECTION_SCORES = ("similarity", "margin", "energy", "mahalanobis")


class Evaluation(Strict):
    """What is computed from stored embeddings. A change trains nothing."""

    vote_neighbours: different(whole(Ge(1)), least=1) = Field(
        [1, 5, 10, 20],
        description="Numbers of nearest neighbours for the majority vote; 1 is the nearest alone.",
    )
    recall_at: different(whole(Ge(1)), least=1) = Field(
        [1, 2, 4, 8],
        description="k of recall@k: the share of queries with a neighbour of their class among the k "
        "nearest.",
    )
    enrolment_images: different(whole(Ge(1)), least=1) = Field(
        [1, 2, 5, 10, 20],
        description="Numbers of images of each unseen class to enrol; 0 and all are always included.",
    )
    enrolment_draws: whole(Ge(1), Le(10_000)) = Field(
        10, description="How often the images to enrol are drawn at random."
    )
    equivalence_margin: Share = Field(
        0.02, description="A difference of precision@1 within ± this counts as no effect."
    )
    answers: different(Piece) = Field(
        [{"kind": kind} for kind in ANSWERS],
        description="Ways of answering beside the nearest neighbour, which is always the first: pieces, "
        "such as `{kind: weighted_neighbours, k: 10}`. `imprinted_classifier` answers only for models "
        "whose loss has a vector per class.",
    )
    rejection_scores: different(Literal[REJECTION_SCORES], least=1) = Field(
        list(REJECTION_SCORES),
        description="Scores that are compared in how well they reject. Thresholds are those of "
        "`similarity`, which is always one of them.",
    )
    bootstrap_draws: whole(Ge(100)) = Field(10_000, description="Resamples behind each interval.")
    bootstrap_seed: Seed = Field(
        42, description="Seed of the resamples and of the images to enrol."
    )
