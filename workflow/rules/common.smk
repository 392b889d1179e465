# Loads and checks the configuration, constrains the wildcards, names files. No rules.

import os
import re
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

from dmlstudy import arguments, configuration, recipes
from dmlstudy.canonical import canonical_json
from dmlstudy.captions import caption
from dmlstudy.files import StudyError, file_digest, refuse_read_only
from dmlstudy.fingerprint import fingerprint
from dmlstudy.mounts import binds
from dmlstudy.source_code import code_digest
from dmlstudy.sources import addresses, without_secrets
from dmlstudy.study import ALL_CLASSES, local_source, plan

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


def checked_study():
    """The study that the configuration describes; a mistake ends the workflow with a sentence."""
    # In order of precedence: files of the command line are merged over the workflow's own.
    given = [str(path) for path in workflow.overwrite_configfiles]
    files = [str(path) for path in workflow.configfiles if str(path) not in given] + given
    try:
        configuration.validate(config, WORKFLOW_DIR / "schemas" / "config.schema.yaml", files)
        study = plan(config)
        # A node of a cluster need not see what was copied already.
        if workflow.is_main_process:
            study.check_local_files()
        study.refuse_foreign_results(Path(config["results_dir"]) / "study.json")
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
        "results": STUDY.results(),
    }
    # Braces are doubled since Snakemake formats the prefix.
    words = shlex.quote(canonical_json(LIVE)).replace("{", "{{").replace("}", "}}")
    shell.prefix(f"{PREFIX}export DML_TRACKING={words}; ")
RESULTS = config["results_dir"].rstrip("/")
CLAIM = f"{RESULTS}/study.json"
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
    if not os.path.exists(CONTAINER):
        raise WorkflowError(
            f"container: {CONTAINER} is not there. `make container` builds containers/dml-cpu.sif or "
            "containers/dml-gpu.sif; see README, In containers"
        )
    READ = [WORKFLOW_DIR, WORKFLOW_DIR.parent / "config", *STUDY.local_paths()]
    WRITTEN = [RESULTS, tempfile.gettempdir()]
    for variable in ("APPTAINER_BIND", "SINGULARITY_BIND"):
        os.environ[variable] = binds(os.environ.get(variable, ""), READ, WRITTEN)
CLASS_SETS = list(STUDY.class_sets)
# What the original study published and ran, for comparison.
PUBLISHED = {
    name: WORKFLOW_DIR.parent / "config" / name
    for name in ("published.csv", "published_deductions.csv", "published_recipes.yaml")
}
PUBLISHED_RECIPES = configuration.read_yaml(PUBLISHED["published_recipes.yaml"])
# What the images are, in every table; what else a reader must know, on every page.
DATA = f"{STUDY.name} (synthetic)" if STUDY.synthetic else STUDY.name
NOTE = " ".join(STUDY.notes())


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
    arch="resnet18|resnet50",
    resize=r"(shorter|squash)\d+",


def data(dataset, name):
    return f"{RESULTS}/data/{dataset}/{name}"


SOURCES = {name: local_source(dataset) for name, dataset in STUDY.datasets.items()}
DRAWN = [name for name, dataset in STUDY.datasets.items() if dataset["drawn"]]
FOLDERS = [name for name, source in SOURCES.items() if source is not None and source.is_dir()]
DOWNLOADED = [name for name in STUDY.datasets if name not in DRAWN and SOURCES[name] is None]
UNPACKED = [name for name in STUDY.datasets if name not in FOLDERS]


def source_fingerprint(dataset):
    """Digest of a local archive or folder, so that new content is noticed and a touch is not."""
    if SOURCES[dataset] is None:
        return ""
    try:
        return fingerprint(SOURCES[dataset], data(dataset, ".fingerprint.json"))
    except StudyError as error:
        key = "dataset" if dataset == STUDY.name else f"other_datasets.{dataset}"
        raise WorkflowError(f"{key}.source: {error}") from None


FINGERPRINTS = {name: source_fingerprint(name) for name in STUDY.datasets}


def archive(dataset):
    """The archive of a data set and, where it is ours, its digest."""
    if SOURCES[dataset] is not None:
        return {"archive": ancient(str(SOURCES[dataset]))}
    path = data(dataset, "archive")
    return {"archive": ancient(path), "digest": f"{path}.sha256"}


def image_files(dataset):
    """Inputs that hold a data set's images: unpacked ones, or none for a folder of the user's."""
    if dataset in FOLDERS:
        return {}
    return {
        "images": ancient(data(dataset, "images")),
        "contents": data(dataset, "contents.json"),
    }


def image_folder(dataset):
    return str(SOURCES[dataset]) if dataset in FOLDERS else data(dataset, "images")


def packs(dataset, recipe):
    """Training and test pack of a recipe, followed through their digests."""
    inputs = {}
    for part, resize in zip(("train", "test"), STUDY.resizes(recipe)):
        folder = data(dataset, f"pack_{resize}")
        inputs[f"{part}_pixels"] = ancient(f"{folder}/pixels.bin")
        inputs[f"{part}_index"] = ancient(f"{folder}/index.npz")
        inputs[f"{part}_digest"] = f"{folder}/pixels.bin.sha256"
    return inputs


def test_pack_files(recipe):
    """The files of a recipe's test pack, followed through their digest."""
    inputs = packs(STUDY.name, recipe)
    return {name: path for name, path in inputs.items() if name.startswith("test_")}


def tables(dataset, *class_sets):
    return {
        "manifest": data(dataset, "manifest.csv"),
        "split": data(dataset, "split.csv"),
        # Not ancient: a changed param alone is not noticed while a job upstream has to run.
        "class_set": [data(dataset, f"class_sets/{name}.csv") for name in class_sets],
    }


def weights(initializer, arch, class_set, seed):
    """Files of an initializer's weights for one backbone; none for random weights."""
    entry = STUDY.initializers[initializer]
    if entry["kind"] == "scratch":
        return {}
    if entry["kind"] == "torchvision":
        path = f"{RESULTS}/initializers/{initializer}/{arch}.pth"
    else:
        if entry["dataset"] != "study":
            class_set = ALL_CLASSES
        seed = seed if entry["seed"] is None else entry["seed"]
        path = f"{RESULTS}/initializers/{initializer}/{class_set}/seed{seed}/{arch}.pt"
    return {"weights": ancient(path), "weights_digest": f"{path}.sha256"}


def initializer_dataset(initializer):
    name = STUDY.initializers[initializer]["dataset"]
    return STUDY.name if name == "study" else name


def initializer_inputs(wildcards):
    recipe = STUDY.pretraining_recipe(wildcards.initializer, wildcards.arch)
    dataset = initializer_dataset(wildcards.initializer)
    start = weights(recipe["initializer"], wildcards.arch, wildcards.class_set, wildcards.seed)
    return {**tables(dataset, wildcards.class_set), **packs(dataset, recipe), **start}


def run_inputs(wildcards):
    recipe = STUDY.experiments[wildcards.experiment]
    start = weights(recipe["initializer"], recipe["backbone"], wildcards.class_set, wildcards.seed)
    return {
        **tables(STUDY.name, wildcards.class_set),
        **packs(STUDY.name, recipe),
        **start,
        **chosen_values(wildcards),
    }


def candidate_inputs(wildcards):
    recipe = STUDY.experiments[wildcards.experiment]
    start = weights(recipe["initializer"], recipe["backbone"], ALL_CLASSES, STUDY.selection_seed)
    return {"images": data(STUDY.name, "selection.csv"), **packs(STUDY.name, recipe), **start}


def candidate_scores(experiment):
    folder = f"{RESULTS}/experiments/{experiment}/selection"
    return [f"{folder}/{candidate}.json" for candidate in STUDY.candidates[experiment]]


def chosen_values(wildcards):
    """The file that completes a recipe of which some values are selected; none for most."""
    if wildcards.experiment not in STUDY.candidates:
        return {}
    return {"chosen": f"{RESULTS}/experiments/{wildcards.experiment}/selection/chosen.json"}


def weights_option(wildcards, input):
    return ["--weights", input.weights] if "weights" in input.keys() else []


def chosen_option(wildcards, input):
    return ["--chosen", input.chosen] if "chosen" in input.keys() else []


def checkpoint_every(wildcards, output):
    """Epochs between stored states. It takes the output, so that it is not compared."""
    return config["checkpoint_every"]


TRACKED = [] if config["tracking"]["mode"] == "disabled" else STUDY.limited


def tracking_files():
    """What became of each run that the tracker was told of."""
    folders = expand(run_folder(), experiment=STUDY.experiments, seed=STUDY.seeds)
    return [f"{folder}/{class_set}/tracking.json" for folder in folders for class_set in TRACKED]


def run_folder(experiment="{experiment}", seed="{seed}"):
    return f"{RESULTS}/experiments/{experiment}/seed{seed}"


def maps():
    """The maps that a page shows: of the first seed's all-classes model and first limited one."""
    return [f"{run_folder(seed=STUDY.seeds[0])}/{name}/map.csv" for name in CLASS_SETS[:2]]


COMPARISON_TABLES = (
    "experiments",
    "differences",
    "figures",
    "curves",
    "enrolment",
    "rejection",
    "published",
    "published_deductions",
    "costs",
)


def comparison_tables():
    return [f"{RESULTS}/comparison/{name}.csv" for name in COMPARISON_TABLES]


def test_pack(experiment):
    """The pack that an experiment is tested with, which its pages take photographs from."""
    return data(STUDY.name, f"pack_{STUDY.resizes(STUDY.experiments[experiment])[1]}")


def links(**pages):
    """{name: (link from a folder, link inside a report of Snakemake)}; values are (link, path)."""
    return canonical_json(
        {name: [link, str(ReportHref(Path(path)))] for name, (link, path) in pages.items()}
    )


INDEX_PAGE = f"{RESULTS}/comparison/index.html"


def report_page_of(experiment):
    return f"{RESULTS}/experiments/{experiment}/report.html"


# What the captions of `snakemake --report` state. No rule depends on it.
config["caption"] = caption(f"{RESULTS}/comparison/experiments.csv", PROTOCOL)


def final_targets():
    return [
        *comparison_tables(),
        INDEX_PAGE,
        *([f"{RESULTS}/comparison/tuning.csv"] if STUDY.candidates else []),
        *(report_page_of(name) for name in STUDY.experiments),
        *(f"{RESULTS}/experiments/{name}/config.yaml" for name in STUDY.experiments),
        *tracking_files(),
    ]


# Not where nothing has to be made, or only planned.
onstart:
    try:
        refuse_read_only(RESULTS)
    except StudyError as error:
        raise WorkflowError(f"results_dir: {error}") from None
