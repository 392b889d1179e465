"""Keys of recipes and their values, in words."""

# Others are shown as they are.
WORDS = {
    "augmentation.kind": "augmentation",
    "backbone": "network",
    "batch_size": "images in a batch",
    "dataset": "data set",
    "backbone_lr": "learning rate of the network",
    "backbone_trains": "whether the network trains",
    "clip_gradients": "largest norm of the gradient",
    "trained_parts.kind": "what trains of the network",
    "head.kind": "head",
    "image_size": "image size in pixels",
    "initializer": "starting weights",
    "loss.kind": "loss",
    "loss_lr": "learning rate of the loss's own weights",
    "optimizer.kind": "optimizer",
    "optimizer.lr": "learning rate",
    "samples_per_class": "images of a class in a batch",
    "schedule.kind": "schedule of the learning rate",
    "source": "source of the images",
    "unseen_draws": "draws of unseen classes",
}
# What the absence of a value means.
ABSENT = {
    "samples_per_class": "any number (a plain shuffle)",
    "loss_lr": "as the network's",
    "backbone_lr": "as the head's",
    "clip_gradients": "any",
}


def in_words(key):
    """A dotted key of a recipe or of the protocol."""
    return WORDS.get(key, key.replace("_", " ").replace(".", " "))


def value_in_words(key, value):
    """A value of a key; numbers without needless digits."""
    if value is None:
        return ABSENT.get(key, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
