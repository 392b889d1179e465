"""The shell environment in which rules run their programs, on the host and in a container."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from dmlstudy.plan.backbones import PROGRAM, Describer
from dmlstudy.plan.mounts import binds

# Packages, settings and caches of the host must not reach a container. Its home would be the working
# directory; numba, W&B and CUDA write there, so it is moved into Snakemake's own folder.
IN_CONTAINER = (
    "unset PYTHONPATH PYTHONHOME XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR NUMBA_CACHE_DIR; "
    'export HOME="$PWD/.snakemake/home"; mkdir -p "$HOME"; '
)
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


def shell_prefix(scripts, config_folder, *, in_container):
    """What every shell command begins with.

    Rules say ``python "$DML_SCRIPTS/…"``. On the host, ``python`` is the interpreter that runs
    Snakemake, so that no environment needs to be activated; in a container it is the image's. No path
    is part of a rule, so that moving the project or its environment runs nothing again.
    """
    folder = shlex.quote(os.path.dirname(sys.executable))
    return (
        COMMON
        + (IN_CONTAINER if in_container else f'export PATH={folder}:"$PATH"; ')
        + f"export DML_SCRIPTS={shlex.quote(str(scripts))}; "
        + f"export DML_CONFIG={shlex.quote(str(config_folder))}; "
    )


def describer_in_container(memory, image, scripts, prefix, arguments):
    """A `Describer` that runs its program in a container image, as the rules' programs run.

    ``memory``: its JSON file; ``prefix``: of `shell_prefix`; ``arguments``: options for apptainer, as
    text.
    """
    command = [
        *(shutil.which("apptainer") or "singularity", "exec", "--bind", str(scripts)),
        *shlex.split(arguments or ""),
        *(str(image), "bash", "-c", f'{prefix}python "$DML_SCRIPTS/{PROGRAM}" "$@"', "bash"),
    ]
    stamp = Path(image).stat()
    # Another image may hold other versions.
    environment = f"{Path(image).name} {stamp.st_size} {stamp.st_mtime_ns}"
    return Describer(memory, command, environment)


def show_to_containers(read, written):
    """Let apptainer mount paths that jobs read and write, through its environment variables."""
    for variable in BIND_VARIABLES:
        os.environ[variable] = binds(os.environ.get(variable, ""), read, written)


def one_of(names):
    """Regular expression for exactly these names; some hold a plus sign."""
    return "|".join(re.escape(str(name)) for name in names) or "(?!)"
