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
PATH = "/usr/local/bin:/usr/bin:/bin"


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder):
        self.folder = Path(folder)

    @classmethod
    def fresh(cls, folder):
        """Only what git would hand out: no results, no caches."""
        keep = ["Snakefile", "config", "workflow", "profiles", "tests/workflow/tiny.yaml"]
        for name in keep:
            source, target = PROJECT / name, Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        return cls(folder)

    def copy(self, folder):
        """Results and Snakemake's memory included, times kept."""
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignored)
        return Project(folder)

    def snakemake(self, *arguments, config=TINY, ok=True, cores=2, snakefile=None, path=PATH):
        """Run Snakemake; targets and options in ``arguments``. Returns stdout and stderr as one text."""
        command = [sys.executable, "-m", "snakemake", "--cores", str(cores), *arguments]
        if snakefile:
            command += ["--snakefile", snakefile]
        if config:
            command += ["--configfile", config]
        # An interpreter by its full path and a bare PATH: no activated environment is needed.
        environment = {**os.environ, "PATH": path}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=900,
        )
        if ok and done.returncode:
            pytest.fail(f"{' '.join(command)} failed:\n{done.stdout[-6000:]}")
        if not ok and not done.returncode:
            pytest.fail(f"{' '.join(command)} was expected to fail:\n{done.stdout[-3000:]}")
        return done.stdout

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
