"""What trainings need of the images that they are trained on, checked before the first training."""

from dmlstudy.core.files import StudyError


def refuse_unmet(images, class_set, needs):
    """Raise StudyError for the first of ``needs`` that a class set does not meet.

    ``class_set``: its name, for the message. ``images``: number of training images of each seen class.
    ``needs``: as of `plan.needs.needs`, each with the ``place`` in the configuration that a mistake is
    told of.
    """
    for need in needs:
        problem = _problem(images, need)
        if problem:
            raise StudyError(
                f"{need['place']}: {need['name']} {problem} ({class_set}: {len(images)} class(es), "
                f"{sum(images)} training image(s))"
            )


def _problem(images, need):
    if sum(images) < 2:
        return (
            "needs at least two training images; lower protocol.unseen_classes or "
            "protocol.test_share, or add images"
        )
    if need["pairs"] and max(images) < 2:
        return (
            "compares images of one class, but no class has two training images; lower "
            "protocol.test_share, add images, or use a loss that compares images with classes"
        )
    classes = len(images)
    if need["held_out_share"] is not None:
        # What a selection holds out of the classes that all models have seen.
        classes -= max(1, round(need["held_out_share"] * classes))
        if classes < 2:
            return (
                "is selected, and with the classes that a selection holds out, fewer than two are "
                "left to train on; lower protocol.unseen_classes or protocol.selection.held_out_share"
            )
        if min(images) < 2:
            return (
                "is selected, which needs two training images of each seen class: one for the gallery "
                "and one query; add images or lower protocol.test_share"
            )
    samples, batch = need["samples_per_class"], need["batch_size"]
    if samples and samples * classes < batch:
        return (
            f"asks for {samples} samples per class, of which {classes} class(es) do not fill a batch of "
            f"{batch}; lower batch_size or raise samples_per_class"
        )
    return None
