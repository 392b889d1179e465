"""Fixtures of all tests. Waiting threads sleep (OMP_WAIT_POLICY), or small machines become very slow."""

import compileall
import gc
import os
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from lent_copies import Copies
from tiny_study import CODE, PROJECT, TINY, Project

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes that test side by side share the cores. More threads than cores wait for each other.
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))

settings.register_profile("default", max_examples=200, deadline=None)
settings.register_profile("thorough", max_examples=10000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
# If set, a missing browser is a failure: `make test-pages`.
REQUIRED = os.environ.get("DML_REQUIRE_CHROMIUM") == "1"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    # WebGL without a graphics card.
    "--enable-unsafe-swiftshader",
    # All pages of files share a process, which compiles their scripts once: see `chromium`.
    "--process-per-site",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


# Charts are drawn once the page is shown.
DRAWN = "!document.querySelector('.plot') || document.documentElement.dataset.drawn"

# What may stay in the system's folder for temporary files: pytest's own folder (its rules say for how
# long), caches that a library keeps for each user, and the slots of a GPU, which all studies share.
MAY_STAY = ("pytest-of-", "torchinductor_", "matplotlib-", "dml_gpu_slots_")


def pytest_configure(config):
    """Give the tests a folder for temporary files, where `pytest_sessionfinish` can look."""
    if hasattr(config, "workerinput"):
        # A process of pytest-xdist: it inherits the folder.
        return
    config.temporary_before = os.environ.get("TMPDIR"), tempfile.tempdir
    # Pytest's own folder stays where it was.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    config.temporary = Path(tempfile.mkdtemp(prefix="dml-tests-"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(config.temporary)
    compile_once()


def compile_once():
    """Compile the project before any test, or each of a thousand programs would compile it again.

    Some machines forbid Python to keep compiled code (PYTHONDONTWRITEBYTECODE). Studies in other folders get
    copies of it (`tiny_study`), and no file appears while a folder is copied.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for folder in ("workflow", "benchmarks"):
        compileall.compile_dir(PROJECT / folder, quiet=2)


def pytest_sessionfinish(session):
    """Fail if the tests, or the programs that they ran, left temporary files behind."""
    folder = getattr(session.config, "temporary", None)
    if folder is None:
        return
    may_stay = MAY_STAY + getattr(session.config, "may_stay", ())
    # Processes of pytest-xdist remove theirs when they end, which is about now.
    for _ in range(20):
        left = sorted(path.name for path in folder.iterdir() if not path.name.startswith(may_stay))
        if not left or not session.config.getoption("numprocesses", None):
            break
        time.sleep(0.5)
    if "wandb" in sys.modules:
        # A test in this very process has imported it: its folders go when Python ends.
        left = [name for name in left if not name.endswith(("wandb-media", "wandb-artifacts"))]
    session.config.left_behind = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config):
    """Remove the folder that `pytest_configure` made."""
    if hasattr(config, "temporary"):
        variable, tempfile.tempdir = config.temporary_before
        if variable is None:
            os.environ.pop("TMPDIR", None)
        else:
            os.environ["TMPDIR"] = variable
        shutil.rmtree(config.temporary, ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    if CHROMIUM or REQUIRED:
        return
    left_out = [item for item in items if item.get_closest_marker("pages")]
    for item in left_out:
        item.add_marker(pytest.mark.skip(reason="Chromium is missing"))
    config.pages_left_out = len(left_out)


def pytest_collection_finish():
    """Keep what all test files have imported out of Python's garbage collections.

    Trainings collect garbage when they start. Millions of objects of torch and others took a second each time.
    """
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter, config):
    left = getattr(config, "left_behind", [])
    if left:
        terminalreporter.write_line(
            f"FAILED: the tests left {len(left)} temporary files or folders behind: "
            f"{', '.join(left[:10])}"
        )
    count = getattr(config, "pages_left_out", 0)
    if count:
        terminalreporter.write_line(
            f"skipped {count} tests of pages, because Chromium is missing (Debian: apt install "
            "chromium; then make test-pages)"
        )


@pytest.fixture(scope="session")
def sharing(testrun_uid):
    """sharing(): a context in which all programs share their fork servers (docs/performance.md).

    The servers end with the process that distributes the tests. Only some tests use them: others kill the
    processes that they have started, servers included.
    """
    owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    setting = f"dml-tests-{testrun_uid}:{owner}" if sys.platform == "linux" else "off"

    @contextmanager
    def shared():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DML_FORK_SERVER", setting)
            # Minutes may pass between two files that need the same server.
            patch.setenv("DML_FORK_SERVER_IDLE", "3600")
            yield

    return shared


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright, with a temporary profile."""
    assert CHROMIUM, "these tests need Chromium (Debian: apt install chromium)"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as profile:
        browser = playwright.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, args=ARGUMENTS, offline=True, headless=True
        )
        browser.set_default_timeout(60_000)
        # The process of all pages ends with the last of them, so this one stays.
        stays = Path(profile) / "stays.html"
        stays.touch()
        browser.new_page().goto(stays.as_uri())
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """visit(path): load the page of a file, with all charts. The test fails at its end if anything went wrong.

    Wrong means: an error on the console, an exception, a dialog, or a request other than for a file.
    """
    opened, wrong = [], []

    def visit(path, *, width=1280, height=900, colours="light"):
        page = chromium.new_page()
        opened.append(page)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=colours)
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(("file:", "data:", "blob:"))
                else wrong.append(request.url)
            ),
        )
        page.goto(path.as_uri() if hasattr(path, "as_uri") else path)
        page.wait_for_function(DRAWN)
        return page

    yield visit
    for page in opened:
        page.close()
    assert wrong == []


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The tiny study, run to its end. Tests that change anything take a copy."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # All test processes share one study: the first process makes it, the others wait.
        shared = shared.parent
    folder, done = shared / "finished" / "project", shared / "finished.done"
    with FileLock(shared / "finished.lock"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            Project.fresh(folder).snakemake()
            done.touch()
    return Project(folder)


@pytest.fixture(scope="session")
def copies_of_finished(finished, tmp_path_factory):
    store = tmp_path_factory.getbasetemp() / "copies_of_finished"
    return Copies(finished.folder, os.listdir(finished.folder), store)


@pytest.fixture(scope="session")
def copies_of_code(tmp_path_factory):
    store = tmp_path_factory.getbasetemp() / "copies_of_code"
    return Copies(PROJECT, (*CODE, TINY), store)


def lent(copies, request, folder):
    """A project in a borrowed copy, which stays where it is if the test fails."""
    failed = request.session.testsfailed
    yield Project(copies.take(folder))
    if request.session.testsfailed == failed:
        copies.give_back(folder)


@pytest.fixture
def project(copies_of_finished, request, tmp_path):
    """A copy of the finished study, in another folder."""
    yield from lent(copies_of_finished, request, tmp_path / "project")


@pytest.fixture
def fresh(copies_of_code, request, tmp_path):
    """The project without results."""
    yield from lent(copies_of_code, request, tmp_path / "project")
