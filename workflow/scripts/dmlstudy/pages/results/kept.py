"""Finished studies that the documentation keeps: a folder of small tables each, below docs/results/."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from dmlstudy.core.files import StudyError, read_json
from dmlstudy.pages.results.study import Study

ABOUT = "study.json"
# Tables that every kept study has.
TABLES = ("experiments", "metrics", "differences", "enrolment", "rejection", "curves", "costs")
# Only studies with selections have it.
TUNING = "tuning"
# Studies that were kept by an earlier version have none.
VERDICT = ("verdict", "verdict_costs")


@dataclass(frozen=True)
class KeptStudy(Study):
    """One finished study.

    ``name``: its folder below docs/results/. ``about``: content of its study.json, see
    `keeping.about`. ``tables``: {name: data frame}, those of `TABLES` and perhaps `TUNING` and
    `VERDICT`.
    """

    name: str = ""

    @classmethod
    def read(cls, folder):
        """Read a study's folder; StudyError names a file that is missing."""
        folder = Path(folder)
        missing = [
            name
            for name in (ABOUT, *(f"{table}.csv" for table in TABLES))
            if not (folder / name).is_file()
        ]
        if missing:
            raise StudyError(
                f"{folder}: {', '.join(missing)} missing; add the study again with: "
                "make results ADD=its results folder"
            )
        paths = {path.stem: path for path in folder.glob("*.csv")}
        tables = {
            name: pd.read_csv(paths[name])
            for name in (*TABLES, TUNING, *VERDICT)
            if name in TABLES or name in paths
        }
        return cls(read_json(folder / ABOUT), tables, name=folder.name)


def authority(study):
    """The order of studies, the most authoritative first: a key to sort by.

    Real photographs go before drawn images, the published data set before others, trained networks
    before heads on frozen ones, more epochs before fewer, larger images before smaller, more seeds before
    fewer; then names decide. The page states this rule.
    """
    return (
        study.drawn,
        not study.about["dataset"]["published"],
        study.heads_only,
        -max(study.recipe_values("epochs"), default=0),
        -max(study.recipe_values("image_size"), default=0),
        -len(study.seeds),
        study.name,
    )


def kept_studies(folder):
    """All studies below ``folder``, the most authoritative first; none if the folder is not there."""
    folders = sorted(path for path in Path(folder).glob("*") if path.is_dir())
    return sorted((KeptStudy.read(path) for path in folders), key=authority)
