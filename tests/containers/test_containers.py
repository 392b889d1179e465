"""Rules in containers: the images that `make container` builds, and the tiny study in them.

The tests are skipped, with the reason, if neither apptainer nor podman is installed or no image can be
built (no base image, no network). With DML_REQUIRE_CONTAINERS=1 that is a failure.
DML_APPTAINER_BUILD_OPTIONS, DML_PODMAN_BUILD_OPTIONS and DML_PODMAN_RUN_OPTIONS are further options that a
machine needs (BUILD_OPTIONS of `make container`; options of `podman run`).
"""

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_study import PATH, PROJECT, TINY, Project

REQUIRED = os.environ.get("DML_REQUIRE_CONTAINERS") == "1"


def leave_out(reason):
    (pytest.fail if REQUIRED else pytest.skip)(reason)


def in_containers(run, *arguments, **options):
    """A method of `Project` that starts Snakemake, with every job in the image."""
    place = Path(shutil.which("apptainer")).parent
    more = ("--software-deployment-method", "apptainer")
    return run(*arguments, *more, path=f"{place}:{PATH}", **options)


def options(variable):
    return shlex.split(os.environ.get(variable, ""))


def run_make(folder, builder):
    """Run `make container` of the project in ``folder``; returns the finished process."""
    if not shutil.which(builder):
        leave_out(f"{builder} is not on the PATH")
    more = os.environ.get(f"DML_{builder.upper()}_BUILD_OPTIONS", "")
    return subprocess.run(
        ["make", "container", "KIND=cpu"],
        cwd=folder,
        env={**os.environ, "BUILDER": builder, "BUILD_OPTIONS": more},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def make_container(folder, builder):
    """Output of `make container`; tests are skipped if it cannot build an image."""
    done = run_make(folder, builder)
    if done.returncode:
        leave_out(f"{builder} could build no image: {done.stdout[-3000:]}")
    return done.stdout


def podman(*words):
    command = ["podman", "run", "--rm", *options("DML_PODMAN_RUN_OPTIONS"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_inside(project):
    """Run the whole study inside one podman container, as the owner of the folder."""
    make_container(PROJECT, "podman")
    folder, user = project.folder, os.getuid()
    done = podman(
        *("--user", f"{user}:{os.getgid()}", *(["--userns", "keep-id"] if user else [])),
        *("--volume", f"{folder}:{folder}", "--workdir", str(folder), "dml-for-classification:cpu"),
        *("snakemake", "--cores", "2", "--configfile", TINY),
    )
    assert done.returncode == 0, done.stderr[-6000:]


def digest(folder):
    return hashlib.sha256((folder / "envs/cpu.lock").read_bytes()).hexdigest()


def labels(image):
    command = ["apptainer", "inspect", "--json", "--labels", str(image)]
    answer = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answer["data"]["attributes"]["labels"]


@pytest.fixture(scope="session")
def image():
    """The image of the CPU lock, in the project itself, so that it is built only once."""
    make_container(PROJECT, "apptainer")
    return PROJECT / "containers/dml-cpu.sif"


@pytest.fixture(scope="session")
def builds(tmp_path_factory):
    """A project whose lock has three packages of the real one, so that its images take seconds."""
    project = Project.fresh(tmp_path_factory.mktemp("builds") / "project")
    shutil.copy2(PROJECT / "Makefile", project.folder)
    shutil.copytree(
        PROJECT / "containers",
        project.folder / "containers",
        ignore=shutil.ignore_patterns("*.sif"),
    )
    (project.folder / "envs").mkdir()
    entries = re.split(r"\n(?=[a-z0-9.-]+==)", (PROJECT / "envs/cpu.lock").read_text())
    # One of them has no wheel.
    chosen = [entry for entry in entries if re.match("(pyyaml|numpy|connection-pool)==", entry)]
    assert len(chosen) >= 3
    (project.folder / "envs/cpu.lock").write_text("\n".join(chosen) + "\n")
    return project


@pytest.fixture
def put_image(image):
    """put_image(project): put the image at the path that the project's rules name."""

    def put(project):
        (project.folder / "containers").mkdir(exist_ok=True)
        (project.folder / "containers/dml-cpu.sif").symlink_to(image)

    return put


def tables(results):
    """{path: content} of all tables except those of costs; curves without times."""
    found = {}
    for path in sorted([*results.rglob("*.csv"), *results.rglob("*.json")]):
        name = str(path.relative_to(results))
        # Files of the tracker are named after the time.
        if name.startswith("tracking/") or path.name == "tracking.json":
            continue
        if path.name.endswith(("cost.json", "costs.csv")):
            continue
        content = path.read_bytes()
        if path.name.endswith("curves.csv"):
            content = pd.read_csv(path, dtype=str).drop(columns="seconds", errors="ignore").to_csv()
        found[name] = content
    return found


def test_every_rule_names_the_image():
    """Would catch a rule that runs on the host while all others run in the image."""
    for path in (PROJECT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if "    shell:" in rule:
                assert "    container:\n        CONTAINER\n" in rule, f"{path.name}: {rule[:40]}"


def test_image_carries_the_digest_of_its_lock_and_is_built_once(image):
    """Would catch an image without a label of its lock, or one that is built again each time."""
    assert labels(image)["dml.lock.sha256"] == digest(PROJECT)
    assert labels(image)["dml.kind"] == "cpu"
    before = image.stat()
    said = make_container(PROJECT, "apptainer")
    assert "containers/dml-cpu.sif is up to date with envs/cpu.lock" in said
    assert (image.stat().st_ino, image.stat().st_mtime) == (before.st_ino, before.st_mtime)


def test_tables_equal_those_of_the_host(finished, fresh, request):
    """Would catch another library in the image, or a step that depends on where it runs."""
    if shutil.which("apptainer") or not shutil.which("podman"):
        request.getfixturevalue("put_image")(fresh)
        said = in_containers(fresh.snakemake)
        jobs = int(re.search(r"^total +(\d+)$", said, re.MULTILINE)[1])
        # All except the target rule.
        assert said.count("Activating singularity image") == jobs - 1
    else:
        run_inside(fresh)
    expected, found = tables(finished.result("")), tables(fresh.result(""))
    assert len(expected) > 100
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    for path in finished.result("").rglob("*.pt"):
        assert path.read_bytes() == fresh.result(path.relative_to(finished.result(""))).read_bytes()
    # Their files contain the time.
    for path in finished.result("").rglob("embeddings.npz"):
        here, there = np.load(path), np.load(fresh.result(path.relative_to(finished.result(""))))
        assert all(np.array_equal(here[name], there[name]) for name in here)
    # A container leaves no caches in the working directory.
    assert [path.name for path in fresh.folder.glob(".*")] == [".snakemake"]


def test_going_on_in_containers_with_results_of_the_host(project, put_image):
    """Would catch a switch to containers or another image that retrains everything or hides a change."""
    put_image(project)
    assert in_containers(project.planned) == []
    another = project.folder / "containers/another.sif"
    (project.folder / "containers/dml-cpu.sif").rename(another)
    moved = ("--config", "container=containers/another.sif")
    assert in_containers(project.planned, *moved) == []
    project.edit(
        "workflow/scripts/dmlstudy/compute/losses/arcface.py", "margin=margin", "margin=2 * margin"
    )
    planned = in_containers(project.planned, *moved)
    assert planned == project.planned()
    assert len([job for job in planned if job.startswith("Train")]) == 2
    said = in_containers(project.snakemake, *moved)
    assert said.count("Activating singularity image") == len(planned)
    # And back again.
    assert project.planned() == []


def test_everything_that_a_job_needs_is_mounted(put_image):
    """Would catch jobs that cannot see a project or data outside the working directory and /tmp."""
    # Not below /tmp, which apptainer mounts by itself.
    (PROJECT / "results").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PROJECT / "results") as folder:
        place = Path(folder)
        project = Project.fresh(place / "project")
        put_image(project)
        work, store = place / "work", place / "store"
        shutil.copytree(project.folder / "config", work / "config")
        store.mkdir()
        # The results are elsewhere, as on most clusters.
        (work / "results").symlink_to(store)
        tiny = project.folder / "tests/workflow/tiny.yaml"
        target = "results/tiny/data/tiny_birds/split.csv"
        place_options = ("--directory", str(work))
        in_containers(project.snakemake, *place_options, target, config=str(tiny))
        archive = store / "tiny/data/tiny_birds/archive"
        outside = place / "birds.tgz"
        shutil.copy2(archive, outside)

        def use_archive(config):
            del config["dataset"]["drawn"]
            config["dataset"] |= {"source": str(outside), "bytes": None}
            config["results_dir"] = "results/own"

        project.change_yaml("tests/workflow/tiny.yaml", use_archive)
        target = target.replace("tiny/", "own/", 1)
        in_containers(project.snakemake, *place_options, target, config=str(tiny))
        split = "data/tiny_birds/split.csv"
        assert (store / "own" / split).read_bytes() == (store / "tiny" / split).read_bytes()


def test_package_that_the_image_lacks_is_missed(builds, monkeypatch):
    """Would catch packages of the host in a container, which hide what the lock lacks."""
    make_container(builds.folder, "apptainer")
    leak = builds.folder / "leak/PIL"
    leak.mkdir(parents=True)
    for name in ("__init__", "Image", "ImageDraw", "ImageFilter"):
        (leak / f"{name}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(leak.parent))
    target = "results/tiny/data/tiny_birds/archive"
    said = in_containers(builds.snakemake, target, ok=False)
    assert "No module named 'PIL'" in said
    builds.snakemake(target, "--dry-run")


def test_changed_lock_needs_a_new_image(builds):
    """Would catch an old image labelled with the new lock, or a failed build that removes the image."""
    make_container(builds.folder, "apptainer")
    image, lock = builds.folder / "containers/dml-cpu.sif", builds.folder / "envs/cpu.lock"
    before, text = labels(image), lock.read_text()
    try:
        # A package with another content than the lock says.
        lock.write_text(re.sub("sha256:[0-9a-f]{8}", "sha256:00000000", text))
        done = run_make(builds.folder, "apptainer")
        assert done.returncode
        assert "apptainer could not build the image" in done.stdout
        assert labels(image) == before
        assert [path.name for path in image.parent.glob("*.sif")] == ["dml-cpu.sif"]
    finally:
        lock.write_text(text)
    lock.write_text(text + "# changed\n")
    make_container(builds.folder, "apptainer")
    assert labels(image)["dml.lock.sha256"] == digest(builds.folder) != before["dml.lock.sha256"]


@pytest.fixture(scope="session")
def podman_image(builds):
    make_container(builds.folder, "podman")
    yield "dml-for-classification:cpu"
    subprocess.run(["podman", "rmi", "--force", "dml-for-classification:cpu"], check=False)


def test_containerfile_builds_the_same_from_the_lock(builds, podman_image):
    """Would catch a Containerfile that fails, caches or tools left in its layers, or no label."""
    said = make_container(builds.folder, "podman")
    assert f"{podman_image} is up to date with envs/cpu.lock" in said
    command = ["podman", "image", "inspect", podman_image]
    config = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0][
        "Config"
    ]
    assert config["Labels"]["dml.lock.sha256"] == digest(builds.folder)
    assert config["Labels"]["org.opencontainers.image.base.name"]
    assert config["User"] not in ("", "root", "0", "0:0")
    program = (
        "import importlib.metadata, json, numpy, yaml, connection_pool, pathlib; "
        "print(json.dumps([sorted(d.name.lower() for d in importlib.metadata.distributions()), "
        "pathlib.Path('~root/.cache').expanduser().exists(), numpy.__file__]))"
    )
    done = podman("--user", "0:0", podman_image, "bash", "-c", f'python -c "{program}"')
    assert done.returncode == 0, done.stderr
    packages, cached, place = json.loads(done.stdout)
    assert "pip" not in packages
    assert {"numpy", "pyyaml", "connection-pool"} <= set(packages)
    assert not cached
    assert place.startswith("/opt/dml/")


def test_any_user_may_run_the_image(podman_image, tmp_path):
    """Would catch a user who cannot write to the home or to a mounted folder."""
    owner = os.getuid() or 12345
    os.chmod(tmp_path, 0o777)
    done = podman(
        *("--user", f"{owner}:{owner}", "--volume", f"{tmp_path}:/work", "--workdir", "/work"),
        *(podman_image, "bash", "-c", 'touch ~/cache && python -c \'open("made", "w")\' && id -u'),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(owner)
    assert (tmp_path / "made").stat().st_uid == owner
