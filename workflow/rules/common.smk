# Loads and checks the configuration, constrains the wildcards, names files. No rules.

import copy
import os
import shlex
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from snakemake.exceptions import WorkflowError
from snakemake.iocontainers import ReportHref
from snakemake.logging import logger
from snakemake.utils import update_config

SCRIPTS_DIR = PROJECT / "workflow" / "scripts"
sys.path.insert(0, str(SCRIPTS_DIR))

from dmlstudy.plan import arguments, configuration, identity, quick, recipes, wording
from dmlstudy.plan.backbones import Describer
from dmlstudy.plan.combination_layout import CombinationLayout
from dmlstudy.core.canonical import canonical_json
from dmlstudy.pages.captions import caption
from dmlstudy.core.files import StudyError, file_digest, refuse_read_only
from dmlstudy.plan.failures import FailureReport
from dmlstudy.plan.fingerprint import data_fingerprint
from dmlstudy.plan.layout import Layout
from dmlstudy.data.resizing import parse_resize
from dmlstudy.plan.job_environment import (
    container_image,
    describer_in_container,
    fork_server_setting,
    one_of,
    shell_prefix,
    show_to_containers,
    unformatted,
)
from dmlstudy.core.source_code import code_digest, remember_in
from dmlstudy.core.addresses import addresses, without_secrets
from dmlstudy.core import registry
from dmlstudy.core.registry import backbone_file_name
from dmlstudy.plan.needs import needs
from dmlstudy.plan.planning import MEMORY, plan
from dmlstudy.plan.reproduction import reproduction
from dmlstudy.plan.memory_requests import THUMBNAIL
from dmlstudy.plan.rule_memory import RuleMemory, card_here
from dmlstudy.plan.run_journal import RunJournal, limits
from dmlstudy.plan.start_costs import start_cost_files, start_costs
from dmlstudy.plan.sources import (
    COMMAND_LINE,
    content,
    in_order,
    of_command_line,
    place,
    read_yaml,
)
from dmlstudy.plan.study import ALL_CLASSES

remember_in(Path(".snakemake", "dml-source-code.json"))

# Prints the errors once more, below everything that Snakemake prints. Jobs on other nodes leave that to
# the process that the user started.
FAILURES = FailureReport()
if workflow.is_main_process:
    FAILURES.begin(logger)

DEPLOYED_BY = {
    str(getattr(method, "name", method)).lower()
    for method in workflow.deployment_settings.deployment_method
}
IN_CONTAINERS = "apptainer" in DEPLOYED_BY
# Jobs on other machines, and Snakemake processes that run a single job, start programs directly.
LOCAL = workflow.is_main_process and workflow.local_exec
try:
    FORK_SERVER = fork_server_setting() if LOCAL and not DEPLOYED_BY else ""
except StudyError as error:
    raise WorkflowError(str(error)) from None
PREFIX = shell_prefix(
    SCRIPTS_DIR,
    PROJECT / "config",
    in_container=IN_CONTAINERS,
    in_conda="conda" in DEPLOYED_BY,
    fork_server=FORK_SERVER,
)
shell.prefix(unformatted(PREFIX))


def describer():
    """Tells facts of backbones, from the same packages that the rules use."""
    memory = Path(config["results_dir"]) / MEMORY
    if not IN_CONTAINERS:
        return Describer(memory)
    arguments = workflow.deployment_settings.apptainer_args
    return describer_in_container(memory, container(), SCRIPTS_DIR, PREFIX, arguments)


def container():
    """The image that rules run in: an address, or the path of a file that exists."""
    # A hosted commit has no image.
    place = Path.cwd() if HOSTED else PROJECT
    try:
        return container_image(config["container"], place, Path(".snakemake", "dml-image.sif"))
    except StudyError as error:
        raise WorkflowError(f"container: {error}") from None


def checked_study():
    """The study that the configuration describes; a mistake ends the workflow with a sentence."""
    try:
        configuration.validate(config, SOURCES)
        config["experiments"] = in_order(config["experiments"], "experiments", SOURCES)
        study = plan(config, describer())
        # Other nodes of a cluster may not see a file that was copied already.
        if workflow.is_main_process:
            identity.check_local_files(study)
        identity.refuse_foreign_results(study, Path(config["results_dir"]) / "study.json")
        return study
    except recipes.RecipeError as error:
        raise WorkflowError(f"{place(error.keys, SOURCES)}: {error}") from None
    except StudyError as error:
        raise WorkflowError(str(error)) from None


def sources():
    """Where the configuration comes from, see `sources.place`. Each file is read once."""
    # In order of precedence: files of the command line override those of the workflow, values of the
    # command line override all files.
    given = [str(path) for path in workflow.overwrite_configfiles]
    found = [str(path) for path in workflow.configfiles if str(path) not in given] + given
    values = copy.deepcopy(dict(workflow.config_settings.config))
    update_config(values, TYPED)
    try:
        return [*map(content, found), (COMMAND_LINE, values)]
    except StudyError as error:
        raise WorkflowError(str(error)) from None


TYPED = of_command_line(workflow.config_settings.config_args)
# A module has the configuration that its host gives it.
if not workflow.modifier.skip_configfile:
    update_config(config, TYPED)
SOURCES = sources()
STUDY = checked_study()

# Trainings send live curves if this variable is set. It is part of no rule, so that switching live curves
# on retrains nothing. It does not hold the key: W&B reads that from the environment.
if config["tracking"]["mode"] == "online":
    LIVE = {
        **config["tracking"],
        "root": f"{config['results_dir']}/tracking",
        "results": identity.results(STUDY),
    }
    shell.prefix(unformatted(f"{PREFIX}export DML_TRACKING={shlex.quote(canonical_json(LIVE))}; "))
RESULTS = config["results_dir"]
CLAIM = f"{RESULTS}/study.json"
# Data sets whose split depends on copies or groups: none, or the study's own.
GROUPED = [STUDY.name] if identity.grouped_split(STUDY) else []
FILES = Layout(RESULTS, STUDY, by_digest=ancient)
COMBINATIONS = CombinationLayout(FILES)
PROTOCOL = config["protocol"]
THREADS = PROTOCOL["compute_threads"]
# Jobs that can use a GPU request one; the default profile counts them.
GPU = 0 if config["device"] == "cpu" else 1
# With SNAKEMAKE_OUTPUT_CACHE and --cache, working directories share archives and weights. Without the
# variable, plain "omit-software" would make Snakemake mention --cache at every start.
CACHE = "omit-software" if "SNAKEMAKE_OUTPUT_CACHE" in os.environ else "hash-omit-software"


def training_needs(dataset):
    """What trainings need of a data set, and its class sets, as JSON."""
    found = [{**need, "place": place(need["keys"], SOURCES)} for need in needs(STUDY, dataset)]
    return canonical_json([found, STUDY.class_sets_of(dataset)])


def growing(amount):
    """Memory (MB) or time (minutes) that grows with each attempt: amount, 2 · amount, …

    ``amount``: a number, or a function of the wildcards.
    """
    return lambda wildcards, attempt: (
        attempt * (amount(wildcards) if callable(amount) else amount)
    )


# Jobs on other machines get the GPU that they request. Here trainings only use a GPU if there is one.
ON_GPU = GPU == 1 and (
    config["device"] == "cuda" or workflow.resource_settings.nodes is not None or card_here()
)
NEED = RuleMemory(STUDY, FILES, on_gpu=ON_GPU)


# Snakemake checks an image's name whether or not it uses the image.
CONTAINER = container() if IN_CONTAINERS else None
CONDA = unformatted(str(PROJECT / "workflow" / "envs" / f"{config['conda']}.yaml"))
if IN_CONTAINERS:
    show_to_containers(
        read=[PROJECT / "workflow", PROJECT / "config", *identity.local_paths(STUDY)],
        written=[RESULTS, tempfile.gettempdir()],
    )
CLASS_SETS = list(STUDY.class_sets)
# {name in file names: backbone}.
BACKBONES = {backbone_file_name(name): name for name in STUDY.backbones}
TRACKED = [] if config["tracking"]["mode"] == "disabled" else STUDY.limited
# Numbers and recipes of the original study, for comparison.
PUBLISHED = {
    name: PROJECT / "config" / name
    for name in ("published.csv", "published_deductions.csv", "published_recipes.yaml")
}
PUBLISHED_RECIPES = read_yaml(PUBLISHED["published_recipes.yaml"])
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
    memory = FILES.data(dataset, ".fingerprint.json")
    try:
        if entry["files"]:
            return identity.files_fingerprint(entry, FILES.data(dataset, ""))
        if not source:
            return ""
        return data_fingerprint(source, memory, data_format=entry["format"], csv=entry["csv"])
    except StudyError as error:
        key = "dataset" if dataset == STUDY.name else f"other_datasets.{dataset}"
        raise WorkflowError(f"{key}.{'files' if entry['files'] else 'source'}: {error}") from None


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


def of_unfitted(files):
    """Files about features that are not fitted; a study without any has a sentence in place of an empty page."""
    if not STUDY.unfitted:
        raise WorkflowError(
            "quick: no experiment has backbone_trains: false, epochs: 0 and head none; add "
            "config/quick.yaml to --configfile"
        )
    return files


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
SIZES = [entry["image_size"] for entry in STUDY.experiments.values()]
config["caption"] = caption(f"{RESULTS}/comparison/experiments.csv", PROTOCOL, SIZES)


# Only when jobs run, not in a dry run.
onstart:
    try:
        refuse_read_only(RESULTS)
    except StudyError as error:
        raise WorkflowError(f"results_dir: {error}") from None
    if LOCAL:
        # Snakemake's limit of 100 jobs per second is for clusters. With it, each ended job leaves a
        # timer that wakes the scheduler every second until the end: a tenth of the demo's CPU time.
        workflow.scheduler.job_rate_limiter = None
    if workflow.is_main_process:
        # For `make watch`: which jobs run and failed, and how many may run side by side.
        RunJournal().begin(logger, limits(workflow))


onerror:
    FAILURES.jobs(workflow.scheduler.failed)
