# Loads and checks the configuration, constrains the wildcards, names files. No rules.

import os
import re
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import ReportHref

WORKFLOW_DIR = Path(workflow.current_basedir).resolve().parent
SCRIPTS_DIR = WORKFLOW_DIR / "scripts"
sys.path.insert(0, str(SCRIPTS_DIR))

from dmlstudy.plan import arguments, checks, configuration, identity, recipes, wording
from dmlstudy.plan.backbones import PROGRAM, Describer
from dmlstudy.core.canonical import canonical_json
from dmlstudy.pages.captions import caption
from dmlstudy.core.files import StudyError, file_digest, refuse_read_only
from dmlstudy.plan.fingerprint import fingerprint
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.mounts import binds
from dmlstudy.core.source_code import code_digest
from dmlstudy.core.addresses import addresses, local_path, without_secrets
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.plan.planning import MEMORY, plan
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.study import ALL_CLASSES

# Rules say `python "$DML_SCRIPTS/…"`. On the host that is the interpreter that runs Snakemake, so
# no environment needs to be activated; in a container it is the image's own. No path is part
# of a rule, so that moving the project or its environment runs nothing again.
IN_CONTAINERS = "apptainer" in {
    str(getattr(method, "name", method)).lower()
    for method in workflow.deployment_settings.deployment_method
}
# Packages, settings and caches of the host have no place in a container. Its home would be the working
# directory; what numba, W&B and CUDA keep there goes where Snakemake keeps its own.
OWN_PYTHON = (
    "unset PYTHONPATH PYTHONHOME XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR NUMBA_CACHE_DIR; "
    'export HOME="$PWD/.snakemake/home"; mkdir -p "$HOME"; '
    if IN_CONTAINERS
    else f'export PATH={shlex.quote(os.path.dirname(sys.executable))}:"$PATH"; '
)
PREFIX = (
    OWN_PYTHON
    + f"export DML_SCRIPTS={shlex.quote(str(SCRIPTS_DIR))}; "
    + f"export DML_CONFIG={shlex.quote(str(WORKFLOW_DIR.parent / 'config'))}; "
)
shell.prefix(PREFIX)


def describer():
    """Who is asked about backbones: the interpreter that rules use, in its container where that is one."""
    memory = Path(config["results_dir"]) / MEMORY
    if not IN_CONTAINERS:
        return Describer(memory)
    image = container_image()
    stamp = image.stat()
    words = f'{PREFIX}python "$DML_SCRIPTS/{PROGRAM}" "$@"'
    runtime = shutil.which("apptainer") or "singularity"
    command = [
        *(runtime, "exec", "--bind", str(WORKFLOW_DIR)),
        *shlex.split(workflow.deployment_settings.apptainer_args or ""),
        *(str(image), "bash", "-c", words, "bash"),
    ]
    return Describer(memory, command, f"{image.name} {stamp.st_size} {stamp.st_mtime_ns}")


def container_image():
    """The image that rules run in; it must be there."""
    image = WORKFLOW_DIR.parent / config["container"]
    if not image.exists():
        raise WorkflowError(
            f"container: {image} is not there. `make container` builds containers/dml-cpu.sif or "
            "containers/dml-gpu.sif; see docs/containers.md"
        )
    return image


def checked_study():
    """The study that the configuration describes; a mistake ends the workflow with a sentence."""
    # In order of precedence: files of the command line are merged over the workflow's own.
    given = [str(path) for path in workflow.overwrite_configfiles]
    files = [str(path) for path in workflow.configfiles if str(path) not in given] + given
    try:
        configuration.validate(config, files)
        study = plan(config, describer())
        # A node of a cluster need not see what was copied already.
        if workflow.is_main_process:
            identity.check_local_files(study)
        identity.refuse_foreign_results(study, Path(config["results_dir"]) / "study.json")
        return study
    except recipes.RecipeError as error:
        raise WorkflowError(f"{configuration.place(error.keys, files)}: {error}") from None
    except StudyError as error:
        raise WorkflowError(str(error)) from None


STUDY = checked_study()

# Trainings send live curves where their environment says so: whether they do is part of no rule, so
# that switching it on trains nothing again. The key is not in here, nor anywhere: W&B reads it itself.
if config["tracking"]["mode"] == "online":
    LIVE = {
        **config["tracking"],
        "root": f"{config['results_dir'].rstrip('/')}/tracking",
        "results": identity.results(STUDY),
    }
    # Braces are doubled since Snakemake formats the prefix.
    words = shlex.quote(canonical_json(LIVE)).replace("{", "{{").replace("}", "}}")
    shell.prefix(f"{PREFIX}export DML_TRACKING={words}; ")
RESULTS = config["results_dir"].rstrip("/")
CLAIM = f"{RESULTS}/study.json"
FILES = Layout(RESULTS, STUDY, by_digest=ancient)
PROTOCOL = config["protocol"]
THREADS = PROTOCOL["compute_threads"]
# Where a job may use a GPU it says so; the default profile counts them.
GPU = 0 if config["device"] == "cpu" else 1
# Archives and weights of other working directories are used where a place for them is named and --cache
# is given; without the former, Snakemake would mention the latter at every start.
CACHE = "omit-software" if "SNAKEMAKE_OUTPUT_CACHE" in os.environ else "hash-omit-software"


def growing(amount):
    """Memory (MB) or time (minutes): this much, and as much again at each further attempt."""
    return lambda wildcards, attempt: amount * attempt


CONTAINER = str(WORKFLOW_DIR.parent / config["container"])
if IN_CONTAINERS:
    READ = [WORKFLOW_DIR, WORKFLOW_DIR.parent / "config", *identity.local_paths(STUDY)]
    WRITTEN = [RESULTS, tempfile.gettempdir()]
    for variable in ("APPTAINER_BIND", "SINGULARITY_BIND"):
        os.environ[variable] = binds(os.environ.get(variable, ""), READ, WRITTEN)
CLASS_SETS = list(STUDY.class_sets)
# By the part that they have in names of files.
BACKBONES = {backbone_file_name(name): name for name in STUDY.backbones}
TRACKED = [] if config["tracking"]["mode"] == "disabled" else STUDY.limited
# What the original study published and ran, for comparison.
PUBLISHED = {
    name: WORKFLOW_DIR.parent / "config" / name
    for name in ("published.csv", "published_deductions.csv", "published_recipes.yaml")
}
PUBLISHED_RECIPES = configuration.read_yaml(PUBLISHED["published_recipes.yaml"])
# What the images are, in every table; what else a reader must know, on every page.
DATA = f"{STUDY.name} (synthetic)" if STUDY.synthetic else STUDY.name
NOTE = " ".join(wording.notes(STUDY))


def one_of(names):
    """Wildcard constraint: exactly these names (some hold a plus sign)."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"


wildcard_constraints:
    dataset=one_of(STUDY.datasets),
    experiment=one_of(STUDY.experiments),
    class_set=one_of(CLASS_SETS),
    candidate=one_of(dict.fromkeys(name for tried in STUDY.candidates.values() for name in tried)),
    seed=r"\d+",
    initializer=one_of(STUDY.initializers),
    backbone=one_of(BACKBONES),
    resize=r"(shorter|squash)\d+(_bicubic)?",


def source_fingerprint(dataset):
    """Digest of a local archive or folder, so that new content is noticed and a touch is not."""
    source = FILES.sources[dataset]
    try:
        return fingerprint(source, FILES.data(dataset, ".fingerprint.json")) if source else ""
    except StudyError as error:
        key = "dataset" if dataset == STUDY.name else f"other_datasets.{dataset}"
        raise WorkflowError(f"{key}.source: {error}") from None


FINGERPRINTS = {name: source_fingerprint(name) for name in STUDY.datasets}


def weights_file(wildcards):
    """Entry of an initializer's file of weights; None where the configuration has none."""
    entry = STUDY.initializers[wildcards.initializer]
    return entry["weights"].get(BACKBONES[wildcards.backbone])


def weights_fingerprint(wildcards):
    """Digest of a local file of weights that nothing else identifies, so that new content is noticed."""
    file, backbone = weights_file(wildcards), BACKBONES[wildcards.backbone]
    path = local_path(file["source"]) if file else None
    if (
        path is None
        or file["sha256"]
        or not checks.needs_checksum(STUDY.initializers[wildcards.initializer]["kind"], backbone)
    ):
        return ""
    folder = f"{RESULTS}/initializers/{wildcards.initializer}"
    return fingerprint(path, f"{folder}/.{wildcards.backbone}.fingerprint.json")


def weights_option(wildcards, input):
    return ["--weights", input.weights] if "weights" in input.keys() else []


def chosen_option(wildcards, input):
    return ["--chosen", input.chosen] if "chosen" in input.keys() else []


def checkpoint_every(wildcards, output):
    """Epochs between stored states. It takes the output, so that it is not compared."""
    return config["checkpoint_every"]


def links(**pages):
    """{name: (link from a folder, link inside a report of Snakemake)}; values are (link, path)."""
    return canonical_json(
        {name: [link, str(ReportHref(Path(path)))] for name, (link, path) in pages.items()}
    )


# What the captions of `snakemake --report` state. No rule depends on it.
config["caption"] = caption(f"{RESULTS}/comparison/experiments.csv", PROTOCOL)


# Not where nothing has to be made, or only planned.
onstart:
    try:
        refuse_read_only(RESULTS)
    except StudyError as error:
        raise WorkflowError(f"results_dir: {error}") from None
