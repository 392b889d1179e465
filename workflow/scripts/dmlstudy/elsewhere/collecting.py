"""Puts what came back from another machine into a results folder, where the ordinary rules find it."""

import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, atomic_path, file_digest
from dmlstudy.data.dataset import Dataset
from dmlstudy.elsewhere import job as jobs
from dmlstudy.elsewhere import parts


def collect(job, folders):
    """Put the results in ``folders`` into the job's results folder.

    Returns (runs that are complete there now, runs among them without a model, summary of the last
    call). Raises StudyError for results of other trainings, for damaged ones, and for a run of which
    the results folder already holds other results.
    """
    results = Path(job["results_dir"]) / "experiments"
    known = {jobs.place(run): run for run in job["runs"]}
    last = {}
    for folder in folders:
        indexes = sorted(Path(folder).glob(f"{jobs.BACK}_*.json"))
        if not indexes:
            raise StudyError(f"{folder}: holds no results; {jobs.BACK}_1.json is missing")
        for path in indexes:
            index = parts.index_of(folder, path.stem)
            if index.get("job") != job["id"]:
                raise StudyError(f"{path}: belongs to other trainings than {jobs.NAME} does")
            with tempfile.TemporaryDirectory(prefix="dml-collect-") as temporary:
                arrived = Path(temporary) / "arrived"
                parts.unpack(folder, index, arrived)
                for name, run in known.items():
                    if (arrived / name).is_dir():
                        _put(job, run, arrived / name, results / name)
            last = max(last, index, key=lambda one: one.get("call", 0))
    complete = [
        run
        for name, run in known.items()
        if all((results / name / file).is_file() for file in jobs.OUTPUTS)
    ]
    without = [run for run in complete if not (results / jobs.place(run) / jobs.MODEL).is_file()]
    return complete, without, last


def _put(job, run, source, target):
    """Check the files of a run in ``source`` and copy them to ``target``."""
    if (source / "embeddings.npz").is_file():
        _check(job, run, source)
    for path in sorted(source.iterdir()):
        if path.name not in (*jobs.OUTPUTS, jobs.MODEL):
            raise StudyError(f"{path.name}: no result of a training")
        place = target / path.name
        if place.is_file():
            if file_digest(place) == file_digest(path):
                continue
            raise StudyError(
                f"{place}: other results are there already; remove the folder {target} to use those that "
                "came back"
            )
        with atomic_path(place) as temporary:
            shutil.copyfile(path, temporary)
            os.utime(temporary)


def _check(job, run, folder):
    """Raise StudyError unless a run's results are those of its recipe and of this data set."""
    name, data = jobs.place(run), Path(job["results_dir"]) / "data" / job["dataset"]
    dataset = Dataset.read(
        data / "manifest.csv", data / "split.csv", data / "class_sets" / f"{run['class_set']}.csv"
    )
    try:
        with np.load(folder / "embeddings.npz") as found:
            arrays = {key: found[key] for key in found.files}
        curve = pd.read_csv(folder / "curves.csv")
        epochs = int(curve["epoch"].iloc[-1])
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
        raise StudyError(f"{name}: what came back cannot be read: {error!r}") from None
    for part, role in (("train", "gallery"), ("test", "query")):
        ids, values = arrays.get(f"{role}_image_ids"), arrays.get(f"{role}_embeddings")
        wanted = dataset.images(part)
        if ids is None or values is None or not np.array_equal(ids, wanted):
            raise StudyError(f"{name}: its {role} images are not those of {data / 'split.csv'}")
        if values.dtype != np.float32 or len(values) != len(ids) or not np.isfinite(values).all():
            raise StudyError(f"{name}: its {role} embeddings are damaged")
    if epochs != run["recipe"]["epochs"]:
        raise StudyError(
            f"{name}: its curve ends with epoch {epochs}, the recipe has {run['recipe']['epochs']}"
        )


def configuration(job, complete):
    """(names of experiments of which all runs are there, changes of the configuration to only these).

    ``complete``: runs that are there, see `collect`. Raises StudyError if no experiment is complete.
    """
    there = {jobs.place(run) for run in complete}
    names = [
        name
        for name in dict.fromkeys(run["experiment"] for run in job["runs"])
        if all(
            jobs.place({"experiment": name, "seed": seed, "class_set": class_set}) in there
            for seed in job["seeds"]
            for class_set in job["class_sets"]
        )
    ]
    if not names:
        raise StudyError("no experiment is complete yet: both class sets of it must have come back")
    untrained = job["untrained"]
    return names, {
        "only": [name for name in names if name not in untrained],
        "untrained": {"backbones": [untrained[name] for name in names if name in untrained]},
    }
