"""The data set of a finished run, found from the run's folder."""

from pathlib import Path

from dmlstudy.core.files import StudyError, read_json


def data_of(run):
    """The folder of the data set of a run, as the study's record says; StudyError if there is no record."""
    run = Path(run).absolute()
    record = next((up / "study.json" for up in run.parents if (up / "study.json").is_file()), None)
    if record is None:
        raise StudyError(
            f"{run}: no folder above it has a study.json, so its data set is unknown; give the folder of "
            "the data set (results/data/NAME) with --data"
        )
    return record.parent / "data" / read_json(record)["dataset"]
