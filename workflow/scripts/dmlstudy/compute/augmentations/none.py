"""No augmentation: images are resized to a square, for training and testing."""

TRAIN_RESIZE = ("squash", "exact")
TEST_RESIZE = ("squash", "exact")
# Views of each image in a batch.
VIEWS = 1


def build(images):
    """Function (rows, generator) → normalised images (batch, 3, size, size) of `ImageBatches`."""
    return lambda rows, generator: images.normalise(images.centre(rows))
