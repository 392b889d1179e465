"""Load a finished run into FiftyOne: images, predictions, neighbours, embeddings and their map.

FiftyOne has an environment of its own (make env-fiftyone):

    .venv-fiftyone/bin/python workflow/scripts/to_fiftyone.py --run results/experiments/NAME/seed42/limited_classes
    .venv-fiftyone/bin/fiftyone app launch NAME-seed42-limited_classes
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, read_json
from dmlstudy.data.dataset import Dataset, read_manifest
from dmlstudy.evaluate.evaluation import read_embeddings
from dmlstudy.use.fiftyone_samples import samples


def import_fiftyone():
    """FiftyOne, or StudyError that says where it is to be had."""
    try:
        import fiftyone
    except ImportError:
        raise StudyError(
            "FiftyOne is not installed in this environment; it has one of its own: "
            "make env-fiftyone, then .venv-fiftyone/bin/python instead of python"
        ) from None
    return fiftyone


def to_sample(fiftyone, values):
    """FiftyOne's sample of one dictionary of `dmlstudy.use.fiftyone_samples.samples`."""

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
    """An empty data set that outlives this program; StudyError where there is no database."""
    from fiftyone.core.config import FiftyOneConfigError
    from fiftyone.core.service import ServiceException
    from pymongo.errors import PyMongoError

    try:
        if fiftyone.dataset_exists(name) and not overwrite:
            raise StudyError(f"FiftyOne has a data set {name!r} already; --overwrite replaces it")
        return fiftyone.Dataset(name, persistent=True, overwrite=overwrite)
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            "FiftyOne's database (MongoDB) is not to be had here, so nothing was loaded; "
            f"FIFTYONE_DATABASE_URI may name one that runs elsewhere: {reason}"
        ) from None


def load(fiftyone, name, rows, overwrite):
    """Make FiftyOne's data set of ``rows`` (list of dictionaries), with its map and its similarities."""
    dataset = new_dataset(fiftyone, name, overwrite)
    try:
        fill(dataset, [to_sample(fiftyone, row) for row in rows], rows)
    except BaseException:
        # It would outlive this program, half filled.
        dataset.delete()
        raise


def fill(dataset, made, rows):
    """Add the samples ``made`` of ``rows``, and what FiftyOne sorts and lays them out by."""
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
    parser.add_argument("--data", type=Path, help="the data set's folder in the results")
    parser.add_argument(
        "--images", type=Path, help="folder that the manifest's paths start at (DATA/images)"
    )
    parser.add_argument("--name", help="of FiftyOne's data set (EXPERIMENT-seedN-CLASS_SET)")
    parser.add_argument("--neighbours", type=int, default=10, help="of each query (10)")
    parser.add_argument("--overwrite", action="store_true", help="a data set of the same name")
    args = parser.parse_args()

    def work():
        fiftyone = import_fiftyone()
        run = args.run.resolve()
        if not (run / "embeddings.npz").is_file():
            raise StudyError(
                f"{run}: holds no embeddings.npz; give the folder of a finished run, such as "
                "results/experiments/NAME/seed42/limited_classes"
            )
        results = run.parents[3]
        data = args.data or results / "data" / read_json(results / "study.json")["dataset"]
        images = args.images or data / "images"
        if not images.is_dir():
            raise StudyError(
                f"{images} is not there; where the images lie in a folder of your own, say so "
                "with --images"
            )
        manifest = read_manifest(data / "manifest.csv")
        dataset = Dataset(
            manifest,
            pd.read_csv(data / "split.csv"),
            pd.read_csv(data / "class_sets" / f"{run.name}.csv"),
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
        name = args.name or "-".join(run.parts[-3:])
        load(fiftyone, name, list(rows), args.overwrite)
        print(f"{len(manifest)} images in {name!r}; look at them: fiftyone app launch {name}")

    console.run(work)


if __name__ == "__main__":
    main()
