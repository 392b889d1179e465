"""Chooses among the candidates of an experiment by their scores, and tabulates all candidates."""

from dmlstudy.core.files import StudyError


def choose(name, scores):
    """The candidate with the largest harmonic mean. Ties go to the larger softmax accuracy, then the first.

    Without a head that trains, on stored features, all harmonic means are equal: only the classifier
    differs.

    ``scores``: {candidate: the result of `train.candidate.try_recipe`}, in the order of the lists
    in the configuration. A candidate whose training diverged is never chosen. Raises StudyError,
    which names the experiment ``name``, if all diverged.
    """
    converged = {key: score for key, score in scores.items() if not score["diverged"]}
    if not converged:
        raise StudyError(
            f"experiments.{name}.selection: the training of every candidate diverged; list a lower "
            "optimizer.lr or loss_lr"
        )

    def rank(candidate):
        score = converged[candidate]
        return score["harmonic_mean"], score["softmax_accuracy_validation"] or 0

    # max() returns the first of equals.
    return max(converged, key=rank)


def tuning_rows(name, scores, chosen):
    """Rows of ``tuning.csv`` for one experiment: a row per candidate, in the order of the lists."""
    return [
        {
            "experiment": name,
            "values": candidate,
            "precision_at_1_validation": score["precision_at_1_validation"],
            "precision_at_1_held_out_classes": score["precision_at_1_held_out_classes"],
            "harmonic_mean": score["harmonic_mean"],
            "softmax_accuracy_validation": score["softmax_accuracy_validation"],
            "diverged": int(score["diverged"]),
            "chosen": int(candidate == chosen),
            "candidates": len(scores),
            **{
                key: score[key]
                for key in (
                    "epochs",
                    "seed",
                    "trained_classes",
                    "held_out_classes",
                    "validation_queries",
                    "held_out_queries",
                    "gallery",
                )
            },
        }
        for candidate, score in scores.items()
    ]
