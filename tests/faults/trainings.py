"""Trainings to interrupt, each with as many attempts as it needs."""

import json
import time

import pandas as pd

from dmlstudy.plan.recipe_factory import make_recipe

# The configuration of the studies to interrupt.
FAULTS = "tests/faults/faults.yaml"

RECIPE = make_recipe(
    head={"kind": "linear", "embedding_dim": 8},
    optimizer={"kind": "sgd", "lr": 0.01, "momentum": 0.9},
    schedule={"kind": "constant", "warmup": 2},
    epochs=4,
    batch_size=8,
    image_size=32,
    precision="float32",
    compute_threads=1,
    device="cpu",
    eval_every=None,
).as_dict()


def until(condition):
    """Wait for ``condition()``; fails only if it never comes."""
    deadline = time.monotonic() + 1800
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Training:
    """One training of a program, with as many attempts as it needs."""

    def __init__(self, warm, material, folder, program="train", **recipe):
        self.warm, self.material, self.folder, self.program = warm, material, folder, program
        self.recipe = {**RECIPE, **({"eval_every": 2} if program == "train" else {}), **recipe}
        folder.mkdir(parents=True)
        self.out = folder / "out"
        self.journal = folder / "journal"
        self.journal.touch()
        self.code = "code"

    @property
    def state(self):
        return self.out / ("state" if self.program == "train" else "resnet18_state")

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def arguments(self):
        if self.program == "train":
            outputs = ["--out", self.out]
        else:
            names = {"weights": "resnet18.weights", "curve": "curves.csv"}
            names |= {"check": "check.json", "cost": "cost.json"}
            outputs = [w for k, v in names.items() for w in (f"--out-{k}", self.out / v)]
        return [
            *("--recipe", json.dumps(self.recipe), "--code", self.code, *outputs),
            *("--manifest", self.material / "manifest.csv"),
            *("--split", self.material / "split.csv"),
            *("--class-set", self.material / "limited.csv"),
            *("--train-pack", self.material / "pack_shorter35"),
            *("--test-pack", self.material / "pack_shorter32"),
            *("--log", self.folder / "log"),
        ]

    def start(self, harm=None):
        """Start an attempt; returns its process id."""
        request = {
            "program": self.program,
            "arguments": [str(word) for word in self.arguments()],
            "journal": str(self.journal),
            "output": str(self.folder / "output"),
            "harm": harm,
        }
        self.warm.stdin.write(json.dumps(request) + "\n")
        self.warm.stdin.flush()
        return int(self.warm.stdout.readline())

    def end(self):
        """Wait for the end of the attempt; returns its exit code, negative for a signal."""
        return int(self.warm.stdout.readline())

    def attempt(self, harm=None):
        self.start(harm)
        return self.end()

    def finish(self):
        code = self.attempt()
        assert code == 0, (self.folder / "output").read_text()
        return self

    def epochs(self):
        """Numbers of the epochs that were started, in all attempts."""
        return [int(line) for line in self.journal.read_text().split()]

    def results(self):
        """{name: content} of the existing outputs, without times."""
        found = {}
        for path in sorted(self.out.glob("*")) if self.out.exists() else []:
            if path.is_file() and path.name != "cost.json" and not path.name.startswith("."):
                found[path.name] = path.read_bytes()
        if "curves.csv" in found:
            table = pd.read_csv(self.out / "curves.csv", dtype=str)
            found["curves.csv"] = table.drop(columns="seconds").to_csv()
        return found

    def leftovers(self):
        return sorted(path.name for path in self.out.rglob(".*.tmp"))
