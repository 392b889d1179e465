"""The study's augmentation: a random square crop, and a horizontal flip with probability 0.5."""

# Packs for training (shorter side = image_size × resize_margin) and testing (shorter side = image_size).
TRAIN_RESIZE = ("shorter", "margin")
TEST_RESIZE = ("shorter", "exact")
# Views of each image in a batch.
VIEWS = 1


def build(images):
    """Function (rows, generator) → normalised crops (batch, 3, size, size) of `ImageBatches`."""
    return lambda rows, generator: images.normalise(images.random(rows, generator))
