"""The shell environment of jobs: interpreter, paths with blanks, and the image that is asked about backbones."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dmlstudy.core.files import StudyError
from dmlstudy.plan.job_environment import (
    container_image,
    describer_in_container,
    fork_server_setting,
    one_of,
    shell_prefix,
    unformatted,
)


def test_host_prefix_finds_this_interpreter_and_paths_with_blanks(tmp_path):
    """Would catch a job that needs an activated environment, or a project folder with a blank."""
    scripts = tmp_path / "my project" / "it's"
    prefix = shell_prefix(scripts, tmp_path / "config", in_container=False)
    script = prefix + 'command -v python; printf "%s\\n" "$DML_SCRIPTS" "$DML_CONFIG"'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    python, *paths = done.stdout.splitlines()
    assert Path(python).parent == Path(sys.executable).parent
    assert paths == [str(scripts), str(tmp_path / "config")]


def test_prefix_survives_snakemakes_formatting(tmp_path):
    """Would catch a project folder whose braces Snakemake takes for a variable."""
    prefix = shell_prefix(tmp_path / "{x}", tmp_path / "{}", in_container=False)
    assert unformatted(prefix).format() == prefix


def test_conda_environment_comes_first_on_the_path(tmp_path):
    """Would catch the host's interpreter in place of that of an active conda environment."""
    prefix = shell_prefix(tmp_path, tmp_path, in_container=False, in_conda=True)
    assert "export PATH" not in prefix
    assert "DML_SCRIPTS" in prefix


@pytest.mark.skipif(sys.platform != "linux", reason="programs start directly on other systems")
def test_studies_have_servers_of_their_own_or_share_those_that_are_named(monkeypatch):
    """Would catch two studies that share a server unasked, or a typing error that is followed."""
    monkeypatch.delenv("DML_FORK_SERVER", raising=False)
    first, second = fork_server_setting(), fork_server_setting()
    assert first != second
    assert first.endswith(f":{os.getpid()}")
    for value, expected in (("", None), ("off", ""), ("mine:17", "mine:17")):
        monkeypatch.setenv("DML_FORK_SERVER", value)
        assert expected is None or fork_server_setting() == expected
    for value in ("on", "mine", "mine:", "mine:x", "a b:17", "mine:0", "mine:17\n"):
        monkeypatch.setenv("DML_FORK_SERVER", value)
        with pytest.raises(StudyError, match="DML_FORK_SERVER"):
            fork_server_setting()


@pytest.mark.parametrize("name", ["a b", "it's", "ü", "$HOME", "{x}", "a;b"])
def test_image_may_lie_anywhere(tmp_path, name):
    """Would catch a path that Snakemake refuses as an image, or that a shell splits."""
    folder = tmp_path / name
    folder.mkdir()
    image = folder / "dml.sif"
    image.touch()
    link = tmp_path / "link" / "image.sif"
    for _ in range(2):
        named = container_image("dml.sif", folder, link)
        assert shlex.quote(named) == named
        assert Path(named).samefile(image)
    other = folder / "other.sif"
    other.touch()
    assert Path(container_image("other.sif", folder, link)).samefile(other)


def test_image_is_an_address_or_a_file_that_exists(tmp_path):
    """Would catch an address taken for a file, or an image that is found missing only by a job."""
    address = "docker://example.org/dml:1"
    assert container_image(address, tmp_path, tmp_path / "link") == address
    with pytest.raises(StudyError, match=r"no.sif does not exist\. `make container` builds"):
        container_image("no.sif", tmp_path, tmp_path / "link")


def test_container_prefix_leaves_the_host_behind(tmp_path):
    """Would catch packages of the host that a job in a container imports, or caches in its home."""
    prefix = shell_prefix(tmp_path, tmp_path, in_container=True)
    done = subprocess.run(
        ["bash", "-c", prefix + 'echo "${PYTHONPATH-none} $HOME"'],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/host", "HOME": "/root"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["none", f"{tmp_path}/.snakemake/home"]
    assert sys.executable not in prefix


# What a notebook, a debugging session or a cluster's profile may have set, and what breaks with it.
FOREIGN = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "MATPLOTLIBRC": "/no/such/matplotlibrc",
    "PYTHONWARNINGS": "error",
    "PYTHONSAFEPATH": "1",
    "PYTHONOPTIMIZE": "2",
    "NUMBA_DISABLE_JIT": "1",
    "NUMBA_NUM_THREADS": "4096",
    "SCIPY_ARRAY_API": "1",
    "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1",
    "OMP_THREAD_LIMIT": "1",
}


@pytest.mark.parametrize("in_container", [False, True])
def test_variables_of_the_host_change_no_library(tmp_path, in_container):
    """Would catch maps or heat maps that fail because the study was started from a notebook."""
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "program.py").write_text(
        "import warnings, beside, matplotlib, matplotlib.pyplot\n"
        "warnings.warn('no error')\n"
        "assert __debug__\n"
        "print(matplotlib.get_backend())\n"
    )
    prefix = shell_prefix(tmp_path, tmp_path, in_container=in_container)
    python = shlex.quote(sys.executable)
    done = subprocess.run(
        ["bash", "-c", f'{prefix}env; {python} "$DML_SCRIPTS/program.py"'],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": "", **FOREIGN},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *environment, backend = done.stdout.splitlines()
    assert backend.lower() == "agg"
    names = {line.partition("=")[0] for line in environment}
    assert names & FOREIGN.keys() == {"MPLBACKEND"}


def test_what_says_where_something_lies_reaches_the_jobs(tmp_path):
    """Would catch a cache, a certificate or a card that is no longer the one that the host chose."""
    kept = {
        "NUMBA_CACHE_DIR": "/a",
        "TORCH_HOME": "/b",
        "HF_HOME": "/c",
        "SSL_CERT_FILE": "/d",
        "CUDA_VISIBLE_DEVICES": "1",
        "WANDB_API_KEY": "e",
        "PYTHONPATH": "/f",
    }
    prefix = shell_prefix(tmp_path, tmp_path, in_container=False)
    done = subprocess.run(
        ["bash", "-c", f"{prefix}env"],
        env={"PATH": "/usr/bin:/bin", **kept},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.splitlines()) >= {f"{name}={value}" for name, value in kept.items()}


def test_backbones_are_described_in_the_image_of_the_rules(tmp_path, monkeypatch):
    """Would catch facts of the host's packages, or of an image that was replaced since."""
    image = tmp_path / "a b.sif"
    image.write_bytes(b"1")
    log = tmp_path / "log"
    runtime = tmp_path / "bin" / "apptainer"
    runtime.parent.mkdir()
    answer = '{"timm/x": {"interpolation": "bicubic", "batchnorm": false, "unpublished": null}}'
    runtime.write_text(
        f"#!/bin/bash\nprintf '%s\\n' \"$@\" >> {shlex.quote(str(log))}\necho '{answer}'\n"
    )
    runtime.chmod(0o755)
    monkeypatch.setenv("PATH", f"{runtime.parent}:/usr/bin:/bin")

    def ask():
        memory = tmp_path / "memory.json"
        describer = describer_in_container(memory, image, tmp_path, "true; ", "--nv --bind /x")
        return describer(["timm/x"], 32)["timm/x"]["interpolation"]

    assert ask() == ask() == "bicubic"
    words = log.read_text().splitlines()
    assert words[:6] == ["exec", "--bind", str(tmp_path), "--nv", "--bind", "/x"]
    assert words[6] == str(image)
    assert words.count("exec") == 1, "an answer is remembered"
    image.write_bytes(b"22")
    ask()
    assert log.read_text().splitlines().count("exec") == 2


def test_names_are_taken_literally():
    """Would catch a plus sign in an experiment's name that matches another experiment."""
    import re

    assert re.fullmatch(one_of(["a+b", "c"]), "a+b")
    assert not re.fullmatch(one_of(["a+b"]), "aab")
    assert not re.fullmatch(one_of([]), "")
