"""The folder of a finished run, as given on a command line."""

import os
import re
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.core.names import first_of

AND_CONFIGURATION = " (and the study's --configfile, if it has one)"
SHAPE = re.compile(r"(^|/)experiments/[^/]+/seed\d+/[^/]+$")
MODEL = "model.pt"
EXAMPLE = "results/experiments/NAME/seed42/all_classes"
# From the folder of a seed up to the one that holds several results folders.
BELOW = ("*", "seed*/*", "*/seed*/*", "experiments/*/seed*/*", "*/experiments/*/seed*/*")


def target(run, file):
    """What to give to Snakemake so that it makes ``file`` of a run: a path that a rule makes.

    Relative to the working directory if it lies there. An example if ``run`` is no run's folder.
    """
    path = os.path.abspath(run)
    if not SHAPE.search(Path(path).as_posix()):
        return f"{EXAMPLE}/{file}"
    relative = os.path.relpath(path)
    return f"{path if relative.startswith('..') else relative}/{file}"


def check_run(run, file=MODEL):
    """Raise StudyError unless ``run`` is the folder of a run that has ``file``.

    The message says what is wrong: no such folder, a file, a folder above or below that of a run, or
    a run that was not trained yet.
    """
    run = Path(run)
    if (run / file).is_file():
        return
    start = f"{run / file}: no such file" if file == MODEL else f"{run}: contains no {file}"
    if run.is_file():
        raise StudyError(f"{run}: is a file; give the folder of a run, such as {EXAMPLE}")
    below = [found.parent for pattern in BELOW for found in sorted(run.glob(f"{pattern}/{file}"))]
    if below:
        raise StudyError(f"{start}; give the folder of one run: below it are {first_of(below)}")
    above = next((one for one in run.absolute().parents if (one / file).is_file()), None)
    if above is not None:
        raise StudyError(f"{start}; give the folder of the run, which is {above}")
    command = f"snakemake --cores all {target(run, MODEL)} --resources gpu=1{AND_CONFIGURATION}"
    problem = f"{start}; train the run with: {command}"
    if not SHAPE.search(run.absolute().as_posix()):
        is_none = "is not the folder of a run" if run.is_dir() else "does not exist"
        problem += f". {run} {is_none}; give one such as {EXAMPLE}"
    raise StudyError(problem)
