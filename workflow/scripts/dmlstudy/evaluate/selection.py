"""Chooses among the candidates of an experiment by their scores, and tabulates all candidates."""

from dmlstudy.core.files import StudyError


def choose(name, scores):
    """The candidate with the largest harmonic mean. Ties go to the first.

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
    # max() returns the first of equals.
    return max(converged, key=lambda key: converged[key]["harmonic_mean"])


def tuning_rows(name, scores, chosen):
    """Rows of ``tuning.csv`` for one experiment: a row per candidate, in the order of the lists."""
    return [
        {
            "experiment": name,
            "values": candidate,
            "precision_at_1_validation": score["precision_at_1_validation"],
            "precision_at_1_held_out_classes": score["precision_at_1_held_out_classes"],
            "harmonic_mean": score["harmonic_mean"],
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
