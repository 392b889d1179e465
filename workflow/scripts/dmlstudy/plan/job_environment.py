"""The shell environment in which rules run their programs, on the host and in a container."""

import os
import re
import shlex
import shutil
import sys
import uuid
from pathlib import Path

from dmlstudy.core.files import StudyError
from dmlstudy.plan.backbones import PROGRAM, Describer
from dmlstudy.plan.mounts import binds

# Packages, settings and caches of the host must not reach a container. Its home would be the working
# directory; numba, W&B and CUDA write there, so it is moved into Snakemake's own folder.
IN_CONTAINER = (
    "unset PYTHONPATH PYTHONHOME XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR NUMBA_CACHE_DIR; "
    'export HOME="$PWD/.snakemake/home"; mkdir -p "$HOME"; '
)
# `-S`: start.py needs no packages, and finding them takes longer than its work.
START = 'export DML_FORK_SERVER={}; python() ( exec python -S "$DML_SCRIPTS/start.py" "$@" ); '
# Variables of the host that change what libraries do or compute. People set them for other programs, and
# notebooks for their own. Kept are those that say where something lies (caches, certificates, keys),
# which card to use, and PYTHONPATH: on clusters, modules bring packages that way.
CLEARED = (
    # Python: a prompt at the end, no assertions, warnings as errors, no programs' own folder.
    *("PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONDEVMODE", "PYTHONSAFEPATH"),
    # Numba: maps without compilation, or with other threads than the job's.
    *("NUMBA_DISABLE_JIT", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER", "NUMBA_ENABLE_CUDASIM"),
    *(
        "NUMBA_BOUNDSCHECK",
        "NUMBA_OPT",
        "NUMBA_DEBUG",
        "NUMBA_DEVELOPER_MODE",
        "NUMBA_CAPTURED_ERRORS",
    ),
    # Torch: another precision, kernels or compiler, and pickles where only weights are expected.
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "ATEN_CPU_CAPABILITY"),
    *("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TIMM_FUSED_ATTN"),
    *(
        "TORCHDYNAMO_DISABLE",
        "TORCH_COMPILE_DISABLE",
        "TORCH_COMPILE_DEBUG",
        "TORCH_LOGS",
        "PYTORCH_JIT",
    ),
    # OpenMP and MKL: fewer threads than the configuration says; sums depend on their number.
    *("OMP_THREAD_LIMIT", "OMP_DYNAMIC", "OMP_SCHEDULE", "MKL_DYNAMIC", "MKL_CBWR"),
    # Tables and figures: other rules of conversion, unchecked numbers, other styles.
    *("NPY_PROMOTION_STATE", "SCIPY_ARRAY_API", "SKLEARN_ASSUME_FINITE", "PANDAS_COPY_ON_WRITE"),
    "MATPLOTLIBRC",
)
# A notebook's backend is a module of the notebook's own environment; no job opens a window.
COMMON = f"unset {' '.join(CLEARED)}; export MPLBACKEND=agg; "
BIND_VARIABLES = ("APPTAINER_BIND", "SINGULARITY_BIND")


def shell_prefix(scripts, config_folder, *, in_container, in_conda=False, fork_server=""):
    """What every shell command begins with. ``fork_server``: of `fork_server_setting`.

    Rules say ``python "$DML_SCRIPTS/…"``. On the host, ``python`` is the interpreter that runs
    Snakemake, so that no environment needs to be activated; in a container it is the image's, in a
    conda environment that one's. No path is part of a rule, so that moving the project or its
    environment runs nothing again.
    """
    folder = shlex.quote(os.path.dirname(sys.executable))
    on_host = "" if in_conda else f'export PATH={folder}:"$PATH"; '
    return (
        COMMON
        + (IN_CONTAINER if in_container else on_host)
        + f"export DML_SCRIPTS={shlex.quote(str(scripts))}; "
        + f"export DML_CONFIG={shlex.quote(str(config_folder))}; "
        + (START.format(fork_server) if fork_server else "")
    )


def fork_server_setting():
    """Name of the fork servers of this process (see `start.py`), or "" where programs start directly.

    That is so on systems other than Linux, whose libraries may not survive a fork, and if the variable
    ``DML_FORK_SERVER`` is ``off``. Studies that are started with ``DML_FORK_SERVER=name:process id``
    share their servers, which end with that process. Raises StudyError for any other value.
    """
    given = os.environ.get("DML_FORK_SERVER", "")
    if sys.platform != "linux" or given == "off":
        return ""
    if given and not re.fullmatch(r"[\w-]+:[1-9]\d*", given, re.ASCII):
        raise StudyError(
            f"the variable DML_FORK_SERVER is {given!r}; it may be off, or a name and the id of a "
            f"process, such as mine:{os.getpid()}"
        )
    return given or f"dml-{uuid.uuid4().hex}:{os.getpid()}"


def unformatted(text):
    """``text`` for a place where Snakemake formats it like a rule's command: braces are doubled."""
    return text.replace("{", "{{").replace("}", "}}")


def container_image(container, folder, link):
    """What the rules' ``container:`` says: an address (``docker://…``), or the path of an image.

    ``container``: of the configuration; a path is relative to ``folder``. Snakemake refuses an image
    whose path has a blank, and does not quote it. Such an image is named by ``link``, a path without
    such characters that is made here. Raises StudyError if the image does not exist.
    """
    if "://" in container:
        return container
    image = Path(folder, container)
    if not image.exists():
        raise StudyError(
            f"{image} does not exist. `make container` builds containers/dml-cpu.sif or "
            "containers/dml-gpu.sif; see docs/containers.md"
        )
    if shlex.quote(str(image)) == str(image):
        return str(image)
    link = Path(link)
    if not (link.is_symlink() and Path(os.readlink(link)) == image):
        link.parent.mkdir(parents=True, exist_ok=True)
        # Replaced in one step: jobs of a cluster may use it.
        part = link.with_name(f"{link.name}.{os.getpid()}")
        part.symlink_to(image)
        part.replace(link)
    return str(link)


def describer_in_container(memory, image, scripts, prefix, arguments):
    """A `Describer` that runs its program in a container image, as the rules' programs run.

    ``memory``: its JSON file; ``image``: of `container_image`; ``prefix``: of `shell_prefix`;
    ``arguments``: options for apptainer, as text.
    """
    command = [
        *(shutil.which("apptainer") or "singularity", "exec", "--bind", str(scripts)),
        *shlex.split(arguments or ""),
        *(str(image), "bash", "-c", f'{prefix}python "$DML_SCRIPTS/{PROGRAM}" "$@"', "bash"),
    ]
    # Another image may hold other versions.
    environment = str(image)
    if "://" not in environment:
        stamp = Path(image).stat()
        environment = f"{Path(image).name} {stamp.st_size} {stamp.st_mtime_ns}"
    return Describer(memory, command, environment)


def show_to_containers(read, written):
    """Let apptainer mount paths that jobs read and write, through its environment variables."""
    for variable in BIND_VARIABLES:
        os.environ[variable] = binds(os.environ.get(variable, ""), read, written)


def one_of(names):
    """Regular expression for exactly these names; some hold a plus sign."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"
