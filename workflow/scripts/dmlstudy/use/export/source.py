"""What an export tells of a run beside its network: classes, gallery, thresholds, figures. No torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from dmlstudy.core.files import StudyError, read_json
from dmlstudy.core.options import check_input
from dmlstudy.data.dataset import Dataset
from dmlstudy.evaluate.retrieval import read_embeddings
from dmlstudy.use.index_files import check_gallery
from dmlstudy.use.run_data import data_of
from dmlstudy.use.run_folder import AND_CONFIGURATION, check_run, target

INDEX = "index"
SCORE = "cosine similarity to the nearest gallery image: inner product of L2-normalised embeddings"


@dataclass(frozen=True)
class Source:
    """A run and its study, read from tables.

    ``dataset``: `Dataset` of the run's class set; ``embeddings``: as `retrieval.read_embeddings`; ``metrics``:
    the experiment's summary.csv, by metric; ``summary``: the run's summary.json; ``description``: the
    experiment's config.yaml; ``index``: the content of index.json, None if the run has no index; ``judged``:
    rows of rejection_thresholds.csv of this run's model; ``pretraining``: row of pretraining.csv, or None.
    """

    run: Path
    data: Path
    dataset: Dataset
    embeddings: dict
    metrics: pd.DataFrame
    summary: dict
    description: dict
    index: dict | None
    judged: pd.DataFrame
    pretraining: dict | None

    @property
    def experiment(self):
        return self.description["experiment"]

    @property
    def seed(self):
        return int(self.run.parent.name.removeprefix("seed"))

    @property
    def class_set(self):
        return self.run.name

    def pack(self, resize):
        """The folder of the study's test pack; StudyError if it is not there."""
        folder = self.data / f"pack_{resize}"
        for name in ("index.npz", "pixels.bin"):
            if not (folder / name).is_file():
                raise StudyError(
                    f"{folder / name}: missing. The export is checked on the test queries, whose pixels it "
                    f"holds; make it with: snakemake --cores all {folder / name}{AND_CONFIGURATION}"
                )
        return folder


def read_source(run, data=None):
    """The `Source` of a run's folder; ``data``: folder of its data set, if no study.json above tells it.

    Raises StudyError if a table is missing, or if model and tables do not belong together.
    """
    check_run(run)
    # Odd names of folders and links: what is written into files is the path without them.
    run = Path(run).resolve()
    experiment = run.parents[1]
    for path in (
        run / "embeddings.npz",
        run / "summary.json",
        experiment / "summary.csv",
        experiment / "config.yaml",
        experiment / "rejection_thresholds.csv",
    ):
        if not path.is_file():
            raise StudyError(
                f"{path}: missing, and a model card needs its figures; evaluate the experiment with: "
                f"snakemake --cores all {_target_of(run, path)}{AND_CONFIGURATION}"
            )
    data = data_of(run) if data is None else Path(data)
    tables = (data / "manifest.csv", data / "split.csv", data / "class_sets" / f"{run.name}.csv")
    for path in tables:
        check_input("--data", path)
    index = check_gallery(run / INDEX, run / "model.pt") if (run / INDEX).is_dir() else None
    judged = pd.read_csv(experiment / "rejection_thresholds.csv")
    seed = int(run.parent.name.removeprefix("seed"))
    description = yaml.safe_load((experiment / "config.yaml").read_text(encoding="utf-8"))
    return Source(
        run,
        data,
        Dataset.read(*tables),
        read_embeddings(run / "embeddings.npz"),
        pd.read_csv(experiment / "summary.csv").set_index("metric"),
        read_json(run / "summary.json"),
        description,
        index,
        judged[(judged["seed"] == seed) & (judged["model"] == run.name)],
        _pretraining(run, description["experiment"]),
    )


def _target_of(run, path):
    """What to give to Snakemake for a missing table of a run or of its experiment."""
    if path.parent == run:
        return target(run, path.name)
    # The experiment is two folders above the run.
    return str(Path(target(run, path.name)).parents[2] / path.name)


def _pretraining(run, experiment):
    """What the study's configuration says of the weights that an experiment starts from, or None."""
    path = run.parents[3] / "comparison" / "pretraining.csv"
    if not path.is_file():
        return None
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    rows = table[table["experiment"] == experiment].to_dict("records")
    return rows[0] if rows else None


def check_classes(source, stored):
    """Raise StudyError unless the model was trained on the classes that the class set calls seen."""
    seen = np.flatnonzero(source.dataset.seen).tolist()
    if list(stored["class_ids"]) != seen or list(stored["class_names"]) != list(
        source.dataset.class_names
    ):
        raise StudyError(
            f"{source.run / 'model.pt'}: its classes are not those of {source.data}; give the folder of "
            "the data set that it was trained on with --data"
        )


def classes(source, with_logits):
    """The content of classes.json. ``with_logits``: whether the network has class scores as an output."""
    dataset = source.dataset
    seen = np.flatnonzero(dataset.seen).tolist()
    gallery = dataset.class_ids[source.embeddings["gallery_image_ids"]]
    counts = np.bincount(gallery, minlength=len(dataset.class_names)).tolist()
    return {
        "class_set": source.class_set,
        "classes": [
            {
                "class_id": class_id,
                "name": name,
                "seen": bool(dataset.seen[class_id]),
                "gallery_images": counts[class_id],
            }
            for class_id, name in enumerate(dataset.class_names)
        ],
        # The class of each column of the output `logits`.
        "logits_class_ids": seen if with_logits else None,
    }


def gallery(source):
    """Arrays of gallery.npz: the embeddings that photographs are compared with, and their classes."""
    ids = source.embeddings["gallery_image_ids"]
    return {
        "embeddings": source.embeddings["gallery_embeddings"],
        "image_ids": ids,
        "class_ids": source.dataset.class_ids[ids],
    }


def thresholds(source):
    """The content of thresholds.json: the threshold of the run's index, and what queries said of each."""
    chosen, calibration, note = None, None, None
    if source.index is None:
        # Without the path of this machine: an export is made to be passed on.
        note = f"the run had no index when it was exported; build {INDEX} in its folder, then export again"
    else:
        chosen, calibration = source.index["threshold"], source.index.get("calibration")
    left_out = ["experiment", "data", "seed", "model"]
    rows = source.judged.drop(columns=left_out).astype(object)
    return {
        "score": "similarity",
        "score_is": SCORE,
        "unknown": "a photograph whose score is below the threshold",
        "chosen": chosen,
        "note": note,
        "calibration": calibration,
        # Shares of test queries that are accepted; see docs/tables.md of the project.
        "measured": rows.where(rows.notna(), None).to_dict("records"),
    }
