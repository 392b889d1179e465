"""How many images a data set has, as far as that can be known before it is there."""

from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.data.listing import list_rows
from dmlstudy.plan.identity import local_source

# Images of data sets that everybody downloads, by the checksum of their archive.
KNOWN = {"97eceeb196236b17998738112f37df78": 11_788}


def images_of(study, name, given=None):
    """Number of images of a data set. ``given``: what the user says; StudyError if nobody knows it."""
    entry, folder = study.datasets[name], local_source(study.datasets[name])
    listed = Path(study.config["results_dir"]) / "data" / name / "manifest.csv"
    if entry["drawn"]:
        return entry["drawn"]["classes"] * entry["drawn"]["images_per_class"]
    if listed.exists():
        return len(listed.read_text(encoding="utf-8").splitlines()) - 1
    if given:
        return given
    if folder is not None and folder.is_dir():
        return len(list_rows(folder, entry["format"], csv=entry["csv"], own=listed)[1])
    if entry["images"]:
        return entry["images"]
    if entry["md5"] in KNOWN:
        return KNOWN[entry["md5"]]
    raise StudyError(f"{name}: nobody knows yet how many images it has; say --images NUMBER")
