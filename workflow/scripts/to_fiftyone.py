"""Load a finished run into FiftyOne: images, predictions, neighbours, embeddings and their map.

FiftyOne needs a separate environment (make env-fiftyone):

    .venv-fiftyone/bin/python workflow/scripts/to_fiftyone.py --run results/experiments/NAME/seed42/limited_classes
    .venv-fiftyone/bin/fiftyone app launch NAME-seed42-limited_classes
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_input, check_number
from dmlstudy.data.dataset import Dataset, read_manifest
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.use.fiftyone_samples import samples
from dmlstudy.use.run_data import data_of
from dmlstudy.use.run_folder import check_run


def import_fiftyone():
    """Import FiftyOne, or raise StudyError that says how to install it."""
    try:
        import fiftyone
    except ImportError:
        raise StudyError(
            "FiftyOne is not installed in this environment. Run make env-fiftyone, then start this "
            "program with .venv-fiftyone/bin/python"
        ) from None
    return fiftyone


def to_sample(fiftyone, values):
    """Convert a dictionary of `dmlstudy.use.fiftyone_samples.samples` to a FiftyOne sample."""

    def label(name, confidence=None, **more):
        return fiftyone.Classification(label=name, confidence=confidence, **more)

    sample = fiftyone.Sample(
        filepath=values["path"],
        tags=[values["part"], "unseen class" if values["unseen"] else "seen class"],
        image_id=values["image_id"],
        ground_truth=label(values["class_name"]),
    )
    if values["box"]:
        box = fiftyone.Detection(label=values["class_name"], bounding_box=list(values["box"]))
        sample["box"] = fiftyone.Detections(detections=[box])
    if values["embedding"] is not None:
        sample["embedding"] = values["embedding"]
    if values["neighbours"]:
        _, name, similarity = values["neighbours"][0]
        sample["nearest"] = label(name, similarity)
        sample["correct"] = values["correct"]
        sample["vote"] = label(*values["vote"])
        sample["neighbours"] = fiftyone.Classifications(
            classifications=[
                label(name, similarity, image_id=image)
                for image, name, similarity in values["neighbours"]
            ]
        )
    if values["softmax"]:
        sample["softmax"] = label(values["softmax"])
    return sample


def new_dataset(fiftyone, name, overwrite):
    """Create an empty, persistent data set in FiftyOne; StudyError if its database cannot be reached."""
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException
    from pymongo.errors import PyMongoError

    try:
        if fiftyone.dataset_exists(name) and not overwrite:
            raise StudyError(
                f"FiftyOne already has a data set {name!r}; use --overwrite to replace it"
            )
        return fiftyone.Dataset(name, persistent=True, overwrite=overwrite)
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            "FiftyOne's database (MongoDB) cannot be started here, so nothing was loaded; set "
            f"FIFTYONE_DATABASE_URI to use one that runs elsewhere: {reason}"
        ) from None


def load(fiftyone, name, rows, overwrite):
    """Create a FiftyOne data set from ``rows`` (list of dictionaries), with its map and similarities."""
    dataset = new_dataset(fiftyone, name, overwrite)
    try:
        fill(dataset, [to_sample(fiftyone, row) for row in rows], rows)
    except BaseException:
        # A persistent data set would stay, incomplete.
        dataset.delete()
        raise


def fill(dataset, made, rows):
    """Add the samples ``made`` from ``rows``, and compute similarities and the map for FiftyOne."""
    import fiftyone.brain as brain

    dataset.add_samples(made)
    embedded = dataset.exists("embedding")
    vectors = np.stack([row["embedding"] for row in rows if row["embedding"] is not None])
    brain.compute_similarity(embedded, embeddings=vectors, brain_key="similarity", metric="cosine")
    if any(row["coordinates"] for row in rows):
        coordinates = np.array([row["coordinates"] for row in rows if row["embedding"] is not None])
        brain.compute_visualization(embedded, points=coordinates, brain_key="umap")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, type=Path, help="folder that holds embeddings.npz")
    parser.add_argument("--data", type=Path, help="folder of the data set in the results")
    parser.add_argument(
        "--images",
        type=Path,
        help="folder that the paths in the manifest are relative to (DATA/images)",
    )
    parser.add_argument(
        "--name", help="name of the data set in FiftyOne (EXPERIMENT-seedN-CLASS_SET)"
    )
    parser.add_argument("--neighbours", type=int, default=10, help="neighbours per query (10)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a data set with the same name"
    )
    args = parser.parse_args()

    def work():
        check_number("--neighbours", args.neighbours, least=1)
        fiftyone = import_fiftyone()
        check_run(args.run, "embeddings.npz")
        run = args.run.resolve()
        name = "-".join(run.parts[-3:]) if args.name is None else args.name
        if not name.strip() or not name.isprintable():
            raise StudyError(
                f"--name {name!r}: must be one line of printable characters, not empty"
            )
        data = args.data or data_of(run)
        images = args.images or data / "images"
        class_set = data / "class_sets" / f"{run.name}.csv"
        for path in (data / "manifest.csv", data / "split.csv", class_set):
            check_input("--data", path)
        if not images.is_dir():
            raise StudyError(
                f"{images}: no such folder; if the images are in a folder of your own, give it with "
                "--images"
            )
        manifest = read_manifest(data / "manifest.csv")
        dataset = Dataset(
            manifest,
            pd.read_csv(data / "split.csv"),
            pd.read_csv(class_set),
        )
        coordinates = run / "map.csv"
        rows = samples(
            manifest,
            dataset,
            read_embeddings(run / "embeddings.npz"),
            images,
            coordinates=pd.read_csv(coordinates) if coordinates.exists() else None,
            neighbours=args.neighbours,
        )
        load(fiftyone, name, list(rows), args.overwrite)
        print(
            f"{len(manifest)} images loaded as {name!r}; view them with: fiftyone app launch {name}"
        )

    console.run(work)


if __name__ == "__main__":
    main()
