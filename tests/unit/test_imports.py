"""What each program imports before it does anything: seconds that every job of a study waits for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"

# {group: (its programs, packages that they may import, with all that these bring along)}.
TABLES = (
    "numpy pandas dateutil six pytz tzdata cython_runtime threadpoolctl yaml numexpr bottleneck"
)
IMAGES = f"{TABLES} PIL scipy charset_normalizer chardet defusedxml"
MODELS = "pydantic pydantic_core annotated_types typing_extensions typing_inspection"
PAGES = f"{IMAGES} {MODELS} jinja2 markupsafe plotly narwhals packaging"
PLOTS = "matplotlib mpl_toolkits cycler kiwisolver fontTools pyparsing contourpy"
NETWORKS = f"{TABLES} PIL torch torchgen cuda triton tqdm typing_extensions packaging"
GROUPS = {
    "plain": (
        "choose_candidate claim download extract gather_files get_weights time_spent track "
        "track_training train_elsewhere describe watch",
        "yaml cython_runtime jinja2 markupsafe",
    ),
    "tables": (
        "answer check_health choose_classes compare compare_candidates compare_combinations "
        "evaluate hold_out map_embeddings score_rejection split enrol export index_gallery "
        "name_photos remove_class serve to_fiftyone show_problems",
        TABLES,
    ),
    "images": (
        "pack draw_birds list_images find_copies find_problems make_thumbnails split_groups",
        IMAGES,
    ),
    "pages": ("report show_copies suspect_labels compare_studies quick_page", PAGES),
    "plots": ("compare_page write_results", f"{PAGES} {PLOTS}"),
    "planning": (
        "estimate quick list_jobs write_reference",
        f"{TABLES} {MODELS} snakemake configargparse greenlet humanfriendly immutables psutil pulp "
        "sqlalchemy sqlmodel tabulate tenacity throttler wrapt packaging",
    ),
    "networks": (
        "train pretrain try_candidate train_head try_head compute_features measure_models "
        "describe_backbone "
        # What they import when their arguments have been read.
        "dmlstudy.train.job dmlstudy.train.run dmlstudy.train.trainer",
        NETWORKS,
    ),
}
# start replaces itself by another program; pytorch-grad-cam imports scikit-learn, OpenCV and all of torchvision's
# models itself.
NOT_RUN = {"start", "explain"}

SHOW = """
import contextlib, importlib, io, runpy, sys
folder, *names = sys.argv[1:]
sys.path.insert(0, folder)
before = set(sys.modules)
for name in names:
    if "." in name:
        importlib.import_module(name)
        continue
    sys.argv = [name, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        runpy.run_path(f"{folder}/{name}.py", run_name="__main__")
print(*(set(sys.modules) - before))
"""


def test_every_program_stands_in_the_list():
    """Would catch a new program whose start nobody looks at."""
    names = [name for programs, _ in GROUPS.values() for name in programs.split()]
    listed = [name for name in names if "." not in name]
    assert sorted([*listed, *NOT_RUN]) == sorted(path.stem for path in PROGRAMS.glob("*.py"))


@pytest.mark.parametrize("group", GROUPS)
def test_programs_import_only_what_stands_in_the_list(group):
    """Would catch an import at the top of a module that makes hundreds of jobs start seconds later."""
    programs, allowed = GROUPS[group]
    command = [sys.executable, "-c", SHOW, PROGRAMS, *programs.split()]
    # A variable that people set may load more: coverage, a debugger.
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("PYTHON")}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    modules = done.stdout.split()
    packages = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names)
    # Snakemake imports all of its plugins.
    more = {one for one in packages if not one.startswith(("_", "dmlstudy", "snakemake_"))}
    assert more <= set(allowed.split()), more - set(allowed.split())
    # One import of an exception from it took every training a second.
    assert "torch._dynamo" not in modules
