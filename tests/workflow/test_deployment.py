"""The workflow as others use it: as a hosted module, from another folder, in a bare environment."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from loopback import Server
from tiny_study import PROJECT, TINY, WARM, Project

from dmlstudy.core.files import StudyError
from dmlstudy.plan import configuration

# What a shell, Snakemake or a URL could take for something else.
ODD = "a b ü 'q' \"{x}\" %s $HOME; #&"
SMALL = {
    **yaml.safe_load((PROJECT / TINY).read_text()),
    "only": ["EPSHN_cosine_resnet18_sgd_aug"],
    "untrained": {"backbones": []},
    "substitute_initializers": {"imagenet": "scratch"},
    "tracking": {"mode": "disabled"},
}
SMALL.pop("other_datasets")
SMALL["initializers"].pop("other_species")


def git(folder, *words):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """(A clone of a repository with the project, its commit)."""
    folder = tmp_path_factory.mktemp("repository") / "a clone"
    Project.fresh(folder)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "The project")
    return folder, git(folder, "rev-parse", "HEAD")


@pytest.fixture
def host(tmp_path):
    """host(snakefile, text): a folder with a Snakefile that uses the module ``dml``."""
    folder = tmp_path / ODD
    folder.mkdir()

    def host(snakefile, text, config=SMALL):
        module = f"module dml:\n    snakefile: {snakefile}\n    config: CONFIG\n\n"
        (folder / "Snakefile").write_text(f"CONFIG = {config!r}\n\n{module}{text}\n")
        return folder

    return host


def snakemake(folder, *words, ok=True, bare=False, **environment):
    """Output of Snakemake in ``folder`` with little in the environment but a path and ``environment``.

    ``bare``: nothing else, not even the name of the servers that its programs are forks of.
    """
    program = ["-m", "snakemake"] if bare else ["-S", str(WARM)]
    if not bare:
        shared = ("DML_FORK_SERVER", "DML_FORK_SERVER_IDLE", "OMP_NUM_THREADS")
        environment |= {name: os.environ[name] for name in shared if name in os.environ}
    done = subprocess.run(
        [sys.executable, *program, "--cores", "2", *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "OMP_WAIT_POLICY": "passive", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        umask=0o077,
        timeout=900,
    )
    text = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, text[-6000:]
    return text


def planned(text):
    """Names of the rules whose jobs a dry run planned."""
    return re.findall(r"^(\w+) +\d+$", text, re.MULTILINE)


def test_hosted_module_runs_a_study(repository, host, tmp_path):
    """Would catch programs, schemas, templates, captions or environments that only a clone has.

    A bare repository stands where Snakemake keeps its clones of a host, so that no network is asked.
    """
    clone, commit = repository
    cache = tmp_path / "cache"
    bare = cache / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com/someone/dml"
    bare.parent.mkdir(parents=True)
    git(tmp_path, "clone", "--quiet", "--bare", str(clone), str(bare))
    (tmp_path / "disk").mkdir()
    results = tmp_path / "another disk"
    results.symlink_to(tmp_path / "disk")
    source = f'github("someone/dml", path="workflow/Snakefile", commit="{commit}")'
    config = {**SMALL, "results_dir": f"{results}/r ü 'q'"}
    folder = host(source, "use rule * from dml as dml_*", config)
    assert "dml_all" in snakemake(folder, XDG_CACHE_HOME=str(cache))
    made = Path(config["results_dir"])
    assert (made / "comparison" / "index.html").stat().st_size > 10_000
    assert (made / "experiments" / SMALL["only"][0] / "report.html").exists()
    assert [path.name for path in (folder / ".snakemake" / "dml").iterdir()] == [commit]
    again = snakemake(folder, "--report", "report.zip", XDG_CACHE_HOME=str(cache))
    assert "Report created" in again
    with zipfile.ZipFile(folder / "report.zip") as report:
        text = " ".join(report.read("report/report.html").decode().replace("\\n", " ").split())
    assert "limited models were not trained on" in text
    assert "Nothing to be done" in snakemake(folder, "--dry-run", XDG_CACHE_HOME=str(cache))


@pytest.mark.parametrize(
    ("text", "default", "named"),
    [
        ("use rule * from dml as dml_*", "dml_all", "dml_train"),
        ("rule own:\n    output: touch('x')\n\nuse rule * from dml exclude all", "own", None),
        (
            "use rule * from dml exclude all, track\n\nuse rule train from dml with:\n    threads: 2\n\n"
            "rule own:\n    input: rules.index_page.output\n    default_target: True",
            "own",
            "train",
        ),
    ],
    ids=["prefix", "own rule first", "exclude and change"],
)
def test_host_decides_on_names_and_default(repository, host, text, default, named):
    """Would catch a host whose default rule is replaced, or a prefix that leads to no rule."""
    clone, commit = repository
    source = f'gitfile({str(clone)!r}, path="workflow/Snakefile", commit="{commit}")'
    found = planned(snakemake(host(source, text), "--dry-run"))
    assert default in found
    assert (named in found) if named else set(found) <= {default, "total"}


def test_config_of_a_module_changes_the_defaults_only(repository, host):
    """Would catch a host that must repeat every default, or whose own dictionary is changed."""
    clone, _ = repository
    text = "use rule * from dml\n\nassert CONFIG == {'results_dir': 'results/x', 'device': 'cpu'}"
    folder = host(
        repr(f"{clone}/workflow/Snakefile"), text, {"results_dir": "results/x", "device": "cpu"}
    )
    assert {"all", "train"} <= set(planned(snakemake(folder, "--dry-run")))
    folder = host(repr(f"{clone}/workflow/Snakefile"), "use rule * from dml", {"devise": "cpu"})
    assert "devise: unknown key" in snakemake(folder, "--dry-run", ok=False)


def test_prefix_of_paths_is_refused_in_words(repository, host):
    """Would catch outputs in one folder and programs that write into another."""
    clone, _ = repository
    source = f"{str(clone / 'workflow' / 'Snakefile')!r}\n    prefix: 'sub'"
    text = snakemake(host(source, "use rule * from dml"), "--dry-run", ok=False)
    assert "Set results_dir in the module's config" in text


def test_address_without_a_repository_gets_a_sentence(host):
    """Would catch a traceback where only single files, and not the programs, can be had."""
    server = Server(b"")
    for path in (PROJECT / "workflow").rglob("*"):
        if path.suffix == ".smk" or path.name == "Snakefile":
            server.files[f"/{path.relative_to(PROJECT).as_posix()}"] = path.read_bytes()
    try:
        source = repr(f"{server.address}/workflow/Snakefile")
        text = snakemake(host(source, "use rule * from dml"), "--dry-run", ok=False)
    finally:
        server.close()
    assert "Name the workflow by github(), gitlab() or gitfile()" in text
    assert "Traceback" not in text


def test_study_runs_from_another_folder_with_a_bare_environment(tmp_path):
    """Would catch a need for a writable project, git, HOME or TMPDIR, UTF-8, or the project as folder."""
    project = Project.fresh(tmp_path / ODD).folder
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in os.listdir("/usr/bin"):
        if not name.startswith("git"):
            (tools / name).symlink_to(f"/usr/bin/{name}")
    config = tmp_path / "ü {y} 'config'.yaml"
    config.write_text(yaml.safe_dump({**SMALL, "results_dir": str(tmp_path / "r ü 'q'")}))
    folder = tmp_path / "working in {it}"
    folder.mkdir()
    before = {path: path.lstat().st_mtime_ns for path in project.rglob("*")}
    options = ["--snakefile", str(project / "Snakefile"), "--configfile", str(config)]
    target = str(tmp_path / "r ü 'q'" / "data" / "tiny_birds" / "split.csv")
    snakemake(folder, target, *options, bare=True, PATH=str(tools), PYTHONDONTWRITEBYTECODE="1")
    assert Path(target).stat().st_size
    assert {path: path.lstat().st_mtime_ns for path in project.rglob("*")} == before


def test_image_may_lie_under_an_odd_path(tmp_path):
    """Would catch an image whose path Snakemake refuses, or that a shell splits, where images are used."""
    # Snakemake itself cannot work in containers from a folder with an apostrophe.
    project = Project.fresh(tmp_path / ODD.replace("'", "")).folder
    (project / "containers").mkdir()
    (project / "containers" / "dml-cpu.sif").touch()
    # Stands in for apptainer: notes the image and runs the command here.
    runtime = tmp_path / "bin" / "apptainer"
    runtime.parent.mkdir()
    runtime.write_text(
        "#!/bin/bash\n[ $1 = --version ] && echo apptainer version 1.3.0 && exit\n"
        "while [ $# -gt 4 ]; do shift; done\n"
        f'realpath -e "$1" >> {shlex.quote(str(tmp_path / "log"))} || exit 1\n'
        f'PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH exec "${{@:2}}"\n'
    )
    runtime.chmod(0o755)
    options = ["--software-deployment-method", "apptainer", "--configfile", TINY]
    path = f"{runtime.parent}:/usr/bin:/bin"
    snakemake(project, "results/tiny/study.json", *options, bare=True, PATH=path)
    assert (project / "results" / "tiny" / "study.json").exists()
    assert (tmp_path / "log").read_text().splitlines() == [f"{project}/containers/dml-cpu.sif"]


@pytest.mark.parametrize("name", ["results/{x}", "a}", "/tmp/{}/r"])
def test_braces_in_the_results_folder_are_refused_in_words(name):
    """Would catch "No values given for wildcard" for the name of a folder."""
    with pytest.raises(StudyError, match=r"results_dir: is .*; holds a brace"):
        configuration.validate({**SMALL, "results_dir": name}, [])


def test_every_path_in_a_command_is_quoted():
    """Would catch a path with a blank that a shell splits."""
    for path in (PROJECT / "workflow" / "rules").glob("*.smk"):
        for field in re.findall(r"\{((?:input|output|log)\b[^}]*)\}", path.read_text()):
            if not field.endswith(":q"):
                assert not re.search(rf"--[\w-]+ \{{{re.escape(field)}\}}", path.read_text()), field


def test_catalog_can_run_its_test_configuration(fresh):
    """Would catch a .test folder that the workflow no longer accepts."""
    shutil.copytree(PROJECT / ".test", fresh.folder / ".test")
    text = fresh.snakemake(
        "--dry-run", "--directory", ".test", snakefile="workflow/Snakefile", config=None
    )
    assert "train" in planned(text)
    assert not (fresh.folder / ".test" / "results").exists()
