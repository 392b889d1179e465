"""The library's layout: packages import one way, modules are small, packages import nothing by themselves."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
LIBRARY = PROJECT / "workflow" / "scripts" / "dmlstudy"
# The generator of birds is one thing that is told in one place.
LONG = {"data/birds.py"}


def lint_imports(folder):
    """Exit code and output of import-linter for a project folder."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "workflow" / "scripts")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_packages_import_downwards(tmp_path):
    """Would catch a package that imports one above it, and a linter that looks at nothing."""
    code, text = lint_imports(PROJECT)
    assert code == 0, text
    library = tmp_path / "workflow" / "scripts" / "dmlstudy"
    library.parent.mkdir(parents=True)
    (tmp_path / ".importlinter").write_text((PROJECT / ".importlinter").read_text())
    for package in sorted(path for path in LIBRARY.iterdir() if (path / "__init__.py").exists()):
        (library / package.name).mkdir(parents=True)
        (library / package.name / "__init__.py").touch()
    (library / "__init__.py").touch()
    (library / "core" / "low.py").write_text("from dmlstudy.pages import high\n")
    (library / "pages" / "high.py").touch()
    code, text = lint_imports(tmp_path)
    assert code != 0
    assert "dmlstudy.core.low -> dmlstudy.pages.high" in text


def test_modules_are_small():
    """Would catch a module that takes on a second job."""
    lengths = {
        path.relative_to(LIBRARY).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in LIBRARY.rglob("*.py")
    }
    too_long = {name: length for name, length in lengths.items() if length > 400}
    assert too_long.keys() <= LONG, too_long
    # A list of exceptions that nobody needs hides the next one.
    assert too_long.keys() == LONG


def test_packages_import_nothing_by_themselves():
    """Would catch pages and tables that wait for torch because of an ``__init__``."""
    filled = [path for path in LIBRARY.rglob("__init__.py") if path.read_text().strip()]
    assert filled == []


def test_planning_and_pages_start_without_torch():
    """Would catch an import of torch in what hundreds of small jobs and every planning start with."""
    modules = [
        "dmlstudy.plan.planning",
        "dmlstudy.plan.layout",
        "dmlstudy.plan.recipe_factory",
        "dmlstudy.plan.job_list",
        "dmlstudy.plan.snapshot",
        "dmlstudy.pages.reports",
        "dmlstudy.pages.watch_page",
        "dmlstudy.pages.comparison_page",
        "dmlstudy.evaluate.evaluation",
        "dmlstudy.track.tracking",
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0
