"""What `make` chooses and prints before anything is installed."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from dmlstudy.compute import devices
from dmlstudy.core.files import StudyError
from dmlstudy.evaluate import search

PROJECT = Path(__file__).resolve().parents[2]


def dry_make(folder, target):
    """The commands of a target on a machine whose PATH begins with ``folder``; nothing runs."""
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    command = ["make", "--dry-run", f"VENV={folder}/venv", target]
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(
    ("driver", "wanted", "other"), [(True, "gpu", "cpu"), (False, "cpu", "gpu")]
)
def test_lock_follows_the_hardware(tmp_path, driver, wanted, other):
    """Would catch both FAISS builds in one environment, or a GPU that is not used."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nexit {0 if driver else 9}\n")
    program.chmod(0o755)
    commands = dry_make(tmp_path, "env")
    assert f"--kind {wanted}" in commands
    assert f"--kind {other}" not in commands
    assert "activate it with" in commands


@pytest.mark.parametrize(
    ("target", "plain"),
    [
        ("demo", "snakemake --cores all --configfile config/demo.yaml"),
        ("test", "python -m pytest"),
        ("study", "snakemake --cores all --resources gpu=1"),
    ],
)
def test_targets_print_the_plain_command(tmp_path, target, plain):
    """Would catch a target that does not print the command that it runs."""
    lines = [line for line in dry_make(tmp_path, target).splitlines() if plain in line]
    assert len(lines) == 2
    assert lines[0].startswith("echo '$")


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 10, 13), (3, 14, 0)])
def test_unfit_python_gets_a_sentence(version):
    """Would catch a traceback, or an installation that fails after minutes."""
    program = (PROJECT / "envs/check_python.py").read_text()
    code = f"import sys; sys.version_info = {version}; exec({program!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11, 3.12 or 3.13")
    assert "Traceback" not in done.stderr


def test_locks_agree_and_hold_one_faiss_each():
    """Would catch locks compiled at different times, or one without hashes."""
    pins = {}
    for kind in ("cpu", "gpu"):
        text = (PROJECT / f"envs/{kind}.lock").read_text()
        pins[kind] = set(re.findall(r"^([a-z0-9.-]+==[^ \\]+)", text, re.MULTILINE))
        entries = re.split(r"\n(?=[a-z0-9.-]+==)", text)[1:]
        assert all("--hash=sha256:" in entry for entry in entries)
    assert pins["cpu"] - pins["gpu"] == {"faiss-cpu==1.15.1"}
    # faiss-gpu brings libraries of CUDA 12 along; all else is the same.
    more = {pin for pin in pins["gpu"] - pins["cpu"] if not re.match(r"nvidia-.*-cu12==", pin)}
    assert more == {"faiss-gpu==1.15.1"}


def test_gpu_that_faiss_cannot_use_is_reported(monkeypatch, caplog):
    """Would catch a search on the CPU while a GPU is idle, without a warning."""
    monkeypatch.setattr(search.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    search._gpus.cache_clear()
    try:
        assert search._gpus() == 0
    finally:
        search._gpus.cache_clear()
    assert "faiss-cpu is installed" in caplog.text
    assert "make env" in caplog.text


def test_progress_is_a_bar_for_people_and_lines_for_a_log(monkeypatch, caplog, capsys):
    """Would catch a bar written to a log, or a training without any progress output."""
    from dmlstudy.core import console

    caplog.set_level("INFO")
    with console.Progress(3, "run", "epochs") as progress:
        for epoch in range(3):
            progress(1, f"loss {epoch}")
    assert [record.message for record in caplog.records][-1] == "run: 3 of 3 epochs loss 2"
    assert capsys.readouterr().err == ""
    with console.Progress(3, "run", "epochs", done=2) as progress:
        progress(1)
    assert caplog.records[-1].message == "run: 3 of 3 epochs"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.Progress(3, "run", "epochs") as progress:
        progress(1, "loss 0.5, accuracy 0.25, 200 images/s")
        progress.bar.refresh()
    shown = capsys.readouterr().err
    for part in ("run", "1/3", "loss 0.5", "accuracy 0.25", "images/s", "<"):
        assert part in shown


def test_gpu_that_was_promised_and_is_not_there_ends_the_job_in_words(monkeypatch):
    """Would catch a training on the CPU although device: cuda was set."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    with pytest.raises(StudyError, match="torch finds no GPU; set auto or cpu"):
        devices.choose_device("cuda")


def test_gpu_that_torch_cannot_use_is_reported(monkeypatch, caplog):
    """Would catch a GPU that torch cannot use (a container without ``--nv``), without a warning."""
    monkeypatch.setattr(devices.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices.Path, "exists", lambda path: False)
    assert devices.choose_device("auto").type == "cpu"
    assert not caplog.records
    monkeypatch.setattr(devices.Path, "exists", lambda path: str(path) == "/dev/nvidia0")
    assert devices.choose_device("cpu").type == "cpu"
    assert not caplog.records
    assert devices.choose_device("auto").type == "cpu"
    assert "--nv" in caplog.text


def kind_here():
    """Which lock the environment of the tests was installed from."""
    return "gpu" if any(one.name == "faiss-gpu" for one in distributions()) else "cpu"


def project_with(folder):
    """What `make env` needs, in a folder of its own, with newer lock files than any environment."""
    (folder / "envs").mkdir(parents=True)
    shutil.copy(PROJECT / "Makefile", folder)
    for path in [*PROJECT.glob("envs/*.py"), *PROJECT.glob("envs/*.lock")]:
        shutil.copy(path, folder / "envs")
    return folder


def environment_in(folder):
    """A virtual environment with the packages of this one, made in a second."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "all.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    program = folder / "bin" / "snakemake"
    program.write_text(f"#!{folder}/bin/python\nimport sys\nprint(sys.prefix)\n")
    program.chmod(0o755)
    return packages


def state(folder):
    return {
        path: path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if "__pycache__" not in str(path)
    }


def make(folder, *words, ok=True):
    command = ["make", "-C", str(folder), f"KIND={kind_here()}", f"PYTHON={sys.executable}", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_ready_environment_is_used_as_it_is(tmp_path):
    """Would catch an installation, or an error, where .venv is a link to a ready environment."""
    environment_in(tmp_path / "somewhere")
    before = state(tmp_path / "somewhere")
    project = project_with(tmp_path / "clone of it")
    (project / ".venv").symlink_to(tmp_path / "somewhere")
    assert "environment: .venv" in make(project, "env")
    assert state(tmp_path / "somewhere") == before


def test_environment_behind_a_link_is_never_changed(tmp_path):
    """Would catch packages installed into, or removed from, an environment of somebody else."""
    packages = environment_in(tmp_path / "somewhere")
    (packages / "numpy-0.1.dist-info").mkdir()
    (packages / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n")
    # As an older release left it, or one for other hardware.
    (tmp_path / "somewhere" / ".installed-cpu").touch()
    before = state(tmp_path / "somewhere")
    project = project_with(tmp_path / "clone")
    (project / ".venv").symlink_to(tmp_path / "somewhere")
    text = make(project, "env", ok=False)
    assert f".venv is a link to {tmp_path}/somewhere, whose packages differ" in text
    assert "numpy is 0.1, not " in text
    assert "Traceback" not in text
    assert state(tmp_path / "somewhere") == before
    (tmp_path / "somewhere").rename(tmp_path / "elsewhere")
    assert "which does not exist" in make(project, "env", ok=False)
    other = "cpu" if kind_here() == "gpu" else "gpu"
    (project / ".venv").unlink()
    (project / ".venv").symlink_to(tmp_path / "elsewhere")
    assert "made for other hardware" in make(project, "env", f"KIND={other}", ok=False)


# What stands in for pip notes what it is told, and knows some settings; so does what stands in for uv.
PIP = """
import sys
if sys.argv[1:] == ["config", "list"]:
    print(":env:.index-url='https://me:secret@one.example/simple'")
    print("global.index-url='https://two.example/simple'")
    print("global.extra-index-url='file:///a/simple https://b.example/simple'")
    print("install.find-links='/a/b\\\\n/c'")
    print("global.cert='/x.pem'")
    print("global.no-cache-dir=''")
    print("global.no-index='{no_index}'")
else:
    print('pip', *sys.argv[1:])
"""
UV = """
import json, os, sys
print('uv', *sys.argv[1:])
names = [name for name in os.environ if name.startswith("UV_") or name == "SSL_CERT_FILE"]
json.dump({{name: os.environ[name] for name in names}}, open("uv.json", "w"))
sys.exit({code})
"""
WHERE = {
    "UV_DEFAULT_INDEX": "https://me:secret@one.example/simple",
    "UV_EXTRA_INDEX_URL": "file:///a/simple https://b.example/simple",
    "UV_FIND_LINKS": "/a/b,/c",
    "UV_INDEX_STRATEGY": "unsafe-best-match",
    "SSL_CERT_FILE": "/mine.pem",
}


@pytest.mark.parametrize("way", ["uv", "uv fails", "no index"])
def test_environment_that_lacks_a_package_is_brought_up_to_date(tmp_path, monkeypatch, way):
    """Would catch an environment made anew, or with another Python, where one package is old; an installation
    that ends where uv does not work; uv that looks elsewhere than pip is told to; and a password that is shown."""
    for name in [name for name in os.environ if name.startswith("UV_")]:
        monkeypatch.delenv(name)
    # What somebody set for uv wins.
    monkeypatch.setenv("SSL_CERT_FILE", "/mine.pem")
    project = project_with(tmp_path / "clone")
    packages = environment_in(project / ".venv")
    (packages / "numpy-0.1.dist-info").mkdir()
    (packages / "numpy-0.1.dist-info" / "METADATA").write_text("Name: numpy\nVersion: 0.1\n")
    pip = PIP.format(no_index=str(way == "no index").lower())
    for name, program in {"pip": pip, "uv": UV.format(code=int(way == "uv fails"))}.items():
        (packages / name).mkdir()
        (packages / name / "__init__.py").touch()
        (packages / name / "__main__.py").write_text(program)
    text = make(project, "env", "PYTHON=python3")
    assert "secret" not in text
    locks = f"-r envs/{kind_here()}.lock -r envs/dev.lock"
    pip = "pip install --quiet --disable-pip-version-check --require-hashes"
    with_uv = way != "no index"
    assert (f"\n{pip} -r envs/installer.lock\n" in text) == with_uv
    assert (f"--require-hashes --compile-bytecode {locks}\n" in text) == with_uv
    if with_uv:
        assert json.loads((project / "uv.json").read_text()) == WHERE
    assert (f"\n{pip} {locks}\n" in text) == (way != "uv")
    assert ("pip does it" in text) == (way != "uv")
    assert "-m venv" not in text
    assert "pip install" not in make(project, "env"), "the stamp"


@pytest.mark.parametrize("name", ["renamed", "renamed with a blank"])
def test_environment_of_a_renamed_folder_works_again(tmp_path, name):
    """Would catch programs of .venv that look for an interpreter where the folder was before."""
    project = project_with(tmp_path / "first")
    environment_in(project / ".venv")
    make(project, "env")
    assert "mended" not in make(project, "env")
    moved = project.rename(tmp_path / name)
    assert f"made as {tmp_path}/first/.venv; its programs are mended" in make(moved, "env")
    program = [moved / ".venv" / "bin" / "snakemake"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(moved / ".venv")
    script = f"source {shlex.quote(str(moved))}/.venv/bin/activate; command -v snakemake"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(program[0])
    assert "mended" not in make(moved, "env")


@pytest.mark.parametrize("target", ["check-data", "estimate", "watch"])
@pytest.mark.parametrize("name", ["my photos.yaml", 'it\'s "this"; `x` ü.yaml'])
def test_configuration_may_have_any_name(tmp_path, target, name):
    """Would catch a file name that the shell splits or runs."""
    project = project_with(tmp_path / "a b")
    python = project / "stub" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    python.chmod(0o755)
    text = make(project, target, f"CONFIG={name}", "VENV=stub", "PYTHON=true")
    assert f"<--configfile><{name}>" in text
    printed = next(line for line in text.splitlines() if line.startswith("$ "))
    assert shlex.split(printed)[-2:] == ["--configfile", name]


def test_conda_environment_installs_the_lock():
    """Would catch a conda environment with other versions, or a Python that the lock does not fit."""
    environment = yaml.safe_load((PROJECT / "envs/dml.yaml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    assert by_pip == {"pip": ["--require-hashes", "-r cpu.lock"]}
    assert "--python-version 3.11" in (PROJECT / "Makefile").read_text()


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_conda_environments_of_rules_have_the_versions_of_the_locks(kind):
    """Would catch a package or a version that differs between workflow/envs and the locks."""
    python, pip, packages = yaml.safe_load((PROJECT / f"workflow/envs/{kind}.yaml").read_text())[
        "dependencies"
    ]
    assert (python, pip) == ("python =3.11", "pip")
    lock = (PROJECT / f"envs/{kind}.lock").read_text()
    locked = [line.rstrip(" \\") for line in lock.splitlines() if re.match(r"[a-z0-9]", line)]
    assert len(locked) > 100
    assert packages["pip"] == locked
    assert all(Requirement(one).specifier for one in packages["pip"])


def test_images_install_the_same():
    """Would catch Containerfile and definition file with different steps."""
    steps = []
    for name in ("Containerfile", "dml.def"):
        text = (PROJECT / "containers" / name).read_text().replace("\\\n", " ")
        steps.append(
            [" ".join(line.split()) for line in re.findall(r"python -m (?:venv|pip) [^&\n]*", text)]
        )
    assert len(steps[0]) == 3
    assert "--require-hashes -r /opt/dml/environment.lock" in steps[0][1]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(
    ("builder", "words"),
    [
        (None, "install one of: apptainer, singularity, podman, docker"),
        ("podman", "BUILDER is podman, which is not on the PATH"),
        ("buildah", "BUILDER is buildah; it can be one of: apptainer"),
    ],
)
def test_container_without_a_builder_gets_a_sentence(tmp_path, builder, words):
    """Would catch a traceback if no container program is installed."""
    environment = {"PATH": str(tmp_path)} | ({"BUILDER": builder} if builder else {})
    command = [sys.executable, PROJECT / "containers/build.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
