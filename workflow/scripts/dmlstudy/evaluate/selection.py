"""Choosing among an entry's candidates by their scores, and the table of all that were tried."""

from dmlstudy.core.files import StudyError


def choose(name, scores):
    """The candidate with the largest harmonic mean; of several, the first.

    ``scores``: {candidate: what `trial.try_recipe` measured}, in the order of the lists. A training
    that diverged is never chosen. Raises StudyError, naming the experiment, if all did.
    """
    converged = {key: score for key, score in scores.items() if not score["diverged"]}
    if not converged:
        raise StudyError(
            f"experiments.{name}.selection: the training of every candidate diverged; list a lower "
            "optimizer.lr or loss_lr"
        )
    # max() keeps the first of equals.
    return max(converged, key=lambda key: converged[key]["harmonic_mean"])


def tuning_rows(name, scores, chosen):
    """Rows of the table ``tuning.csv``: one per candidate of an entry, in the order of the lists."""
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
