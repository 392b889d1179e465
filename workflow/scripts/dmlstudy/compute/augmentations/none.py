"""No augmentation: images squashed to a square, for training and for testing."""

TRAIN_RESIZE = ("squash", "exact")
TEST_RESIZE = ("squash", "exact")
# Of each image in a batch.
VIEWS = 1


def build(images):
    """Function (rows, generator) → normalised images (batch, 3, size, size) of `ImageBatches`."""
    return lambda rows, generator: images.normalise(images.centre(rows))
