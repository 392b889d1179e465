"""Stored features as the images of a training program."""

from pathlib import Path

from dmlstudy.compute.features import Features
from dmlstudy.core.files import follower
from dmlstudy.train.head_trainer import HeadTrainer


class StoredFeatures:
    """In place of `job.Packs`: one file of features to train on and to embed."""

    trainer = HeadTrainer

    def __init__(self, args):
        self.path, self.test_resize = args.features, args.test_resize

    @staticmethod
    def add_options(options):
        options.add_argument("--features", required=True, help="file of stored features")
        options.add_argument(
            "--test-resize", required=True, help="how photographs are resized: shorter224, …"
        )

    def files(self):
        """Small files that identify the content: {name: path}."""
        return {"features": follower(self.path)}

    def sizes(self):
        """Bytes that would be in the memory of a GPU."""
        return [Path(self.path).stat().st_size]

    def open(self):
        """(training images, test images), as the trainer takes them."""
        features = Features.read(self.path)
        return features, features
