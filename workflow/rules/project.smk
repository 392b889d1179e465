# Finds the project's files. Of a workflow that is hosted in a repository (gitfile(), github(), gitlab()),
# Snakemake reads only rules and captions; the programs and the library are copied from the same commit.

import gc
import io
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from snakemake import __version__
from snakemake.common.configfile import load_configfile
from snakemake.exceptions import WorkflowError
from snakemake.utils import update_config

if int(__version__.split(".")[0]) > 9:
    raise WorkflowError(
        f"This workflow is for Snakemake 9, not {__version__}: install 'snakemake<10'."
    )
# A plan makes hundreds of thousands of objects that live until the end. By default Python looks for garbage
# among them after every 700 new ones, which takes a tenth of the time of a large plan.
gc.set_threshold(200_000, 50, 100)
# Python 3.11.0 to 3.11.3 do not know this option.
SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def hosted_copy(file):
    """A copy of the commit that Snakemake's ``file`` belongs to, in the working directory."""
    from git import Repo
    from git.exc import GitError

    try:
        if hasattr(file, "repo_path"):
            repository = Repo(file.repo_path)
        else:
            file.cache_path = workflow.sourcecache.cache_path
            repository = file.hosted_repo.repo
        commit = repository.commit(file.ref)
        folder = Path(".snakemake", "dml", commit.hexsha).absolute()
        if folder.is_dir():
            return folder
        # Only what jobs read.
        archive = io.BytesIO(
            repository.git.archive(
                commit.hexsha, "config", "workflow", "Snakefile", stdout_as_string=False
            )
        )
    except (AttributeError, GitError, ValueError) as error:
        raise WorkflowError(
            f"The programs of this workflow cannot be copied from {file}: {error}. Name the workflow by "
            "github(), gitlab() or gitfile(), with path=workflow/Snakefile, or by the path of a clone."
        ) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: jobs of a cluster start at the same time and find it by its name.
    part = tempfile.mkdtemp(dir=folder.parent, prefix="part-")
    try:
        with tarfile.open(fileobj=archive) as members:
            members.extractall(part, **SAFELY)
        os.rename(part, folder)
    except OSError:
        # Another job was quicker.
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def defaults(name):
    """Path of a default configuration: of the working directory, else of the project."""
    own = Path("config", name)
    return str(own if own.exists() else PROJECT / "config" / name)


def module_config(given):
    """The configuration of a module whose host gives one: it changes the defaults, as --configfile does."""
    # config.yaml of the working directory is the host's; it has decided what to hand over.
    merged = load_configfile(str(PROJECT / "config" / "config.yaml"))
    update_config(merged, load_configfile(defaults("experiments.yaml")))
    update_config(merged, given)
    return merged


paths = workflow.modifier.path_modifier
if paths.prefix or getattr(paths, "_prefix_replacements", None):
    raise WorkflowError(
        "module: prefix and replace_prefix are not supported, because programs get folders as well. "
        "Set results_dir in the module's config."
    )
# The file that is read now is in workflow/rules.
HERE = workflow.current_basedir
# The root Snakefile of a copy reads this file once more, as a local one.
HOSTED = not hasattr(HERE, "__fspath__") or globals().get("HOSTED", False)
# The folder with config/ and workflow/: of this clone, or of a copy of the hosted commit.
PROJECT = Path(HERE).resolve().parents[1] if hasattr(HERE, "__fspath__") else hosted_copy(HERE)
