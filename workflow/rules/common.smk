# Loads and checks the configuration, constrains the wildcards, names files. No rules.

import os
import shlex
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import ReportHref

WORKFLOW_DIR = Path(workflow.current_basedir).resolve().parent
SCRIPTS_DIR = WORKFLOW_DIR / "scripts"
sys.path.insert(0, str(SCRIPTS_DIR))

from dmlstudy.plan import arguments, configuration, identity, recipes, wording
from dmlstudy.plan.backbones import Describer
from dmlstudy.core.canonical import canonical_json
from dmlstudy.pages.captions import caption
from dmlstudy.core.files import StudyError, file_digest, refuse_read_only
from dmlstudy.plan.fingerprint import data_fingerprint
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.job_environment import (
    describer_in_container,
    one_of,
    shell_prefix,
    show_to_containers,
)
from dmlstudy.core.source_code import code_digest
from dmlstudy.core.addresses import addresses, without_secrets
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.plan.planning import MEMORY, plan
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.study import ALL_CLASSES

IN_CONTAINERS = "apptainer" in {
    str(getattr(method, "name", method)).lower()
    for method in workflow.deployment_settings.deployment_method
}
PREFIX = shell_prefix(SCRIPTS_DIR, WORKFLOW_DIR.parent / "config", in_container=IN_CONTAINERS)
shell.prefix(PREFIX)


def describer():
    """Tells facts of backbones, from the same packages that the rules use."""
    memory = Path(config["results_dir"]) / MEMORY
    if not IN_CONTAINERS:
        return Describer(memory)
    arguments = workflow.deployment_settings.apptainer_args
    return describer_in_container(memory, container_image(), SCRIPTS_DIR, PREFIX, arguments)


def container_image():
    """The image that rules run in. It must exist."""
    image = WORKFLOW_DIR.parent / config["container"]
    if not image.exists():
        raise WorkflowError(
            f"container: {image} does not exist. `make container` builds containers/dml-cpu.sif or "
            "containers/dml-gpu.sif; see docs/containers.md"
        )
    return image


def checked_study():
    """The study that the configuration describes; a mistake ends the workflow with a sentence."""
    # In order of precedence: files of the command line override those of the workflow.
    given = [str(path) for path in workflow.overwrite_configfiles]
    files = [str(path) for path in workflow.configfiles if str(path) not in given] + given
    try:
        configuration.validate(config, files)
        study = plan(config, describer())
        # Other nodes of a cluster may not see a file that was copied already.
        if workflow.is_main_process:
            identity.check_local_files(study)
        identity.refuse_foreign_results(study, Path(config["results_dir"]) / "study.json")
        return study
    except recipes.RecipeError as error:
        raise WorkflowError(f"{configuration.place(error.keys, files)}: {error}") from None
    except StudyError as error:
        raise WorkflowError(str(error)) from None


STUDY = checked_study()

# Trainings send live curves if this variable is set. It is part of no rule, so that switching live curves
# on retrains nothing. It does not hold the key: W&B reads that from the environment.
if config["tracking"]["mode"] == "online":
    LIVE = {
        **config["tracking"],
        "root": f"{config['results_dir'].rstrip('/')}/tracking",
        "results": identity.results(STUDY),
    }
    # Snakemake formats the prefix, so braces are doubled.
    words = shlex.quote(canonical_json(LIVE)).replace("{", "{{").replace("}", "}}")
    shell.prefix(f"{PREFIX}export DML_TRACKING={words}; ")
RESULTS = config["results_dir"].rstrip("/")
CLAIM = f"{RESULTS}/study.json"
FILES = Layout(RESULTS, STUDY, by_digest=ancient)
PROTOCOL = config["protocol"]
THREADS = PROTOCOL["compute_threads"]
# Jobs that can use a GPU request one; the default profile counts them.
GPU = 0 if config["device"] == "cpu" else 1
# With SNAKEMAKE_OUTPUT_CACHE and --cache, working directories share archives and weights. Without the
# variable, plain "omit-software" would make Snakemake mention --cache at every start.
CACHE = "omit-software" if "SNAKEMAKE_OUTPUT_CACHE" in os.environ else "hash-omit-software"


def growing(amount):
    """Memory (MB) or time (minutes) that grows with each attempt: amount, 2 · amount, …"""
    return lambda wildcards, attempt: amount * attempt


CONTAINER = str(WORKFLOW_DIR.parent / config["container"])
if IN_CONTAINERS:
    show_to_containers(
        read=[WORKFLOW_DIR, WORKFLOW_DIR.parent / "config", *identity.local_paths(STUDY)],
        written=[RESULTS, tempfile.gettempdir()],
    )
CLASS_SETS = list(STUDY.class_sets)
# {name in file names: backbone}.
BACKBONES = {backbone_file_name(name): name for name in STUDY.backbones}
TRACKED = [] if config["tracking"]["mode"] == "disabled" else STUDY.limited
# Numbers and recipes of the original study, for comparison.
PUBLISHED = {
    name: WORKFLOW_DIR.parent / "config" / name
    for name in ("published.csv", "published_deductions.csv", "published_recipes.yaml")
}
PUBLISHED_RECIPES = configuration.read_yaml(PUBLISHED["published_recipes.yaml"])
# DATA names the images in every table; NOTE stands on every page.
DATA = f"{STUDY.name} (synthetic)" if STUDY.synthetic else STUDY.name
NOTE = " ".join(wording.notes(STUDY))


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
    """Digest of a local archive or folder: it follows the content, not dates."""
    source, entry = FILES.sources[dataset], STUDY.datasets[dataset]
    if not source:
        return ""
    memory = FILES.data(dataset, ".fingerprint.json")
    try:
        return data_fingerprint(source, memory, data_format=entry["format"], csv=entry["csv"])
    except StudyError as error:
        key = "dataset" if dataset == STUDY.name else f"other_datasets.{dataset}"
        raise WorkflowError(f"{key}.source: {error}") from None


FINGERPRINTS = {name: source_fingerprint(name) for name in STUDY.datasets}
try:
    identity.refuse_foreign_results(STUDY, Path(CLAIM), FINGERPRINTS[STUDY.name])
except StudyError as error:
    raise WorkflowError(str(error)) from None


def weights_file(wildcards):
    """Entry of an initializer's file of weights, or None."""
    entry = STUDY.initializers[wildcards.initializer]
    return entry["weights"].get(BACKBONES[wildcards.backbone])


def weights_content(initializer, backbone):
    """Digest of a local file of weights whose SHA-256 is not in the configuration."""
    name = backbone_file_name(backbone)
    store = f"{RESULTS}/initializers/{initializer}/.{name}.fingerprint.json"
    return identity.weights_fingerprint(STUDY, initializer, backbone, store)


def weights_option(wildcards, input):
    return ["--weights", input.weights] if "weights" in input.keys() else []


def chosen_option(wildcards, input):
    return ["--chosen", input.chosen] if "chosen" in input.keys() else []


def checkpoint_every(wildcards, output):
    """Epochs between stored states. A param function that takes the output is not compared."""
    return config["checkpoint_every"]


def links(**pages):
    """{name: (link from a folder, link inside a report of Snakemake)}; values are (link, path)."""
    return canonical_json(
        {name: [link, str(ReportHref(Path(path)))] for name, (link, path) in pages.items()}
    )


# Values for the captions of `snakemake --report`. No rule depends on them.
config["caption"] = caption(f"{RESULTS}/comparison/experiments.csv", PROTOCOL)


# Only when jobs run, not in a dry run.
onstart:
    try:
        refuse_read_only(RESULTS)
    except StudyError as error:
        raise WorkflowError(f"results_dir: {error}") from None
