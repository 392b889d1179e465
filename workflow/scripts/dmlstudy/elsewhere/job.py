"""What another machine is to train: a `job.json` beside the files that it needs.

It holds plain values only, so that the other machine needs neither Snakemake nor the configuration.
"""

import hashlib
from pathlib import Path

from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError, read_json
from dmlstudy.core.source_code import PROGRAMS

NAME = "job.json"
# Names of sets of parts: what is carried there, and what comes back.
CARRIED, BACK = "carried", "back"
# What a run must bring back, and what it may leave there.
OUTPUTS = ("embeddings.npz", "curves.csv", "cost.json")
MODEL = "model.pt"


def program_files():
    """Digest of all Python files of the programs and the library: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(PROGRAMS.rglob("*.py")):
        name = path.relative_to(PROGRAMS).as_posix()
        digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def identity(job):
    """What tells a job apart from all others: 16 hexadecimal digits."""
    text = canonical_json({key: value for key, value in job.items() if key != "id"})
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(folder):
    """The job of a folder; StudyError if it is not there or was changed."""
    path = Path(folder) / NAME
    if not path.is_file():
        raise StudyError(f"{path}: no such file; prepare the trainings first")
    job = read_json(path)
    if identity(job) != job.get("id"):
        raise StudyError(f"{path}: was changed after it was written; prepare again")
    return job


def place(run):
    """The folder of a run below a folder of all experiments."""
    return f"{run['experiment']}/seed{run['seed']}/{run['class_set']}"
