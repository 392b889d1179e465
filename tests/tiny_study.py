"""A tiny study in a copy of the project, for tests that run Snakemake for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).resolve().parents[1]
TINY = "tests/workflow/tiny.yaml"
WARM = PROJECT / "tests" / "workflow" / "warm_snakemake.py"
# What git would hand out to those who run studies.
CODE = ("Snakefile", "config", "workflow", "profiles")
PATH = "/usr/local/bin:/usr/bin:/bin"


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @classmethod
    def fresh(cls, folder, config=TINY):
        """What git would hand out: no results. Compiled code is copied, or each study would compile it."""
        for name in (*CODE, config):
            source, target = PROJECT / name, Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copy2(source, target)
        return cls(folder)

    def copy(self, folder):
        """Results and Snakemake's memory included, times kept."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def start(self, *arguments, config=TINY, cores=2, snakefile=None, path=PATH, **options):
        """Start Snakemake; targets and options in ``arguments``. Returns the process."""
        shared = os.environ.get("DML_FORK_SERVER", "off") != "off"
        snakemake = ["-S", str(WARM)] if shared else ["-m", "snakemake"]
        command = [sys.executable, *snakemake, "--cores", str(cores), *arguments]
        if snakefile:
            command += ["--snakefile", snakefile]
        if config:
            command += ["--configfile", config]
        # An interpreter by its full path and a bare PATH: no activated environment is needed.
        environment = {**os.environ, "PATH": path}
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options},
        )

    def snakemake(self, *arguments, ok=True, **options):
        """Run Snakemake to its end; see `start`. Returns stdout and stderr as one text."""
        process = self.start(*arguments, **options)
        try:
            text, _ = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if ok and process.returncode:
            pytest.fail(f"{' '.join(process.args)} failed:\n{text[-6000:]}")
        if not ok and not process.returncode:
            pytest.fail(f"{' '.join(process.args)} was expected to fail:\n{text[-3000:]}")
        return text

    def planned(self, *arguments, **options):
        """Messages of the jobs that a dry run plans, sorted, e.g. ``Train X (all_classes, seed 42)``."""
        text = self.snakemake("--dry-run", *arguments, **options)
        messages = re.findall(r"^Job \d+: (.*)$", text, re.MULTILINE)
        return sorted(message for message in messages if message != "The whole study")

    def edit(self, name, old, new):
        path = self.folder / name
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        path.write_text(text.replace(old, new))

    def change_yaml(self, name, change):
        """Load a YAML file, let ``change`` modify the value, write it back."""
        path = self.folder / name
        value = yaml.safe_load(path.read_text())
        change(value)
        path.write_text(yaml.safe_dump(value, sort_keys=False))

    def result(self, name):
        return self.folder / "results" / "tiny" / name
