"""The study's augmentation: a random square crop, mirrored half of the time."""

# Packs that training and testing read: shorter side to image_size × resize_margin, to image_size.
TRAIN_RESIZE = ("shorter", "margin")
TEST_RESIZE = ("shorter", "exact")
# Of each image in a batch.
VIEWS = 1


def build(images):
    """Function (rows, generator) → normalised crops (batch, 3, size, size) of `ImageBatches`."""
    return lambda rows, generator: images.normalise(images.random(rows, generator))
