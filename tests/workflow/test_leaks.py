"""No unseen class and no test image reaches a limited model or its initializers."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from dmlstudy.plan.recipe_factory import make_recipe


class Programs:
    """The real programs, run by hand on a copy of the tiny study's data, with its own commands."""

    def __init__(self, project, folder):
        self.project, self.folder = project, folder
        self.data = folder / "data"
        shutil.copytree(project.result("data/tiny_birds"), self.data)
        self.manifest = pd.read_csv(self.data / "manifest.csv")
        self.split = pd.read_csv(self.data / "split.csv")

    def pixels(self, resize):
        folder = self.data / f"pack_{resize}"
        index = np.load(folder / "index.npz")
        ends = index["offsets"] + index["heights"] * index["widths"] * 3
        return np.memmap(folder / "pixels.bin", np.uint8, "r+"), index["offsets"], ends

    def replace(self, images, seed=0):
        """Noise in place of the pixels of some images, in every pack."""
        generator = np.random.default_rng(seed)
        for resize in ("shorter35", "shorter32"):
            pixels, starts, ends = self.pixels(resize)
            for image in images:
                pixels[starts[image] : ends[image]] = generator.integers(
                    0, 256, ends[image] - starts[image], dtype=np.uint8
                )
            pixels.flush()

    def permute_labels(self, images):
        """The classes of some images, dealt out anew among them."""
        classes = self.manifest.loc[images, ["class_id", "class_name"]].to_numpy()
        self.manifest.loc[images, ["class_id", "class_name"]] = np.roll(classes, 3, axis=0)
        self.manifest.to_csv(self.data / "manifest.csv", index=False)

    def run(self, program, recipe, *more):
        scripts = self.project.folder / "workflow/scripts"
        # As the workflow starts it, so that torch is not imported nine times.
        command = [sys.executable, "-S", str(scripts / "start.py"), str(scripts / program)]
        command += ["--recipe", json.dumps(recipe)]
        command += ["--class-set", str(self.data / "class_sets/limited_classes.csv")]
        command += ["--manifest", str(self.data / "manifest.csv")]
        command += ["--split", str(self.data / "split.csv")]
        command += ["--train-pack", str(self.data / "pack_shorter35")]
        command += ["--test-pack", str(self.data / "pack_shorter32"), *map(str, more)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def weights(self):
        """Weights of a limited model and of both of its initializers, as one flat dictionary."""
        found = {}
        for name in ("classifier", "simclr"):
            self.run("pretrain.py", self.recipe(name), *self.outputs(name))
            state = torch.load(self.folder / f"{name}.pt", weights_only=True)
            found |= {f"{name}.{key}": value for key, value in state.items()}
        self.run("train.py", self.recipe("run"), "--out", self.folder / "run")
        state = torch.load(self.folder / "run" / "model.pt", weights_only=True)
        for part in ("model", "loss"):
            found |= {f"{part}.{key}": value for key, value in state[part].items()}
        return found

    def outputs(self, name):
        suffixes = {"weights": ".pt", "curve": ".csv", "check": "_check.json", "cost": "_cost.json"}
        for option, suffix in suffixes.items():
            yield f"--out-{option}"
            yield self.folder / f"{name}{suffix}"

    def recipe(self, name):
        pieces = {
            "classifier": ("none", "crossentropy", "crop_flip"),
            "simclr": ("simclr_projection", "simclr", "simclr"),
            "run": ("linear", "arcface", "crop_flip"),
        }
        head, loss, augmentation = pieces[name]
        return make_recipe(
            head={"kind": head},
            loss={"kind": loss},
            augmentation={"kind": augmentation},
            optimizer={"kind": "sgd", "lr": 0.01},
            epochs=1,
            batch_size=8,
            image_size=32,
            compute_threads=1,
            device="cpu",
        ).as_dict()


def same(first, second):
    assert first.keys() == second.keys()
    return {key: torch.equal(first[key], second[key]) for key in first}


@pytest.fixture(scope="module")
def original(finished, tmp_path_factory):
    return Programs(finished, tmp_path_factory.mktemp("original")).weights()


def test_unseen_classes_and_test_images_reach_no_weights(finished, original, tmp_path):
    """A limited model, or an initializer of one, that has looked where it must not."""
    programs = Programs(finished, tmp_path)
    unseen = programs.manifest["class_id"] >= 4
    hidden = np.flatnonzero(unseen | (programs.split["part"] == "test"))
    assert 0 < len(hidden) < len(programs.manifest)
    programs.replace(hidden)
    programs.permute_labels(np.flatnonzero(unseen))
    # Test images of seen classes keep a seen class, so that the class set itself stays.
    programs.permute_labels(np.flatnonzero(~unseen & (programs.split["part"] == "test")))
    assert all(same(original, programs.weights()).values())


def test_one_seen_training_image_reaches_all_weights(finished, original, tmp_path):
    """The control: weights that would be equal whatever the pixels."""
    programs = Programs(finished, tmp_path)
    seen = programs.manifest["class_id"] < 4
    programs.replace(np.flatnonzero(seen & (programs.split["part"] == "train"))[:1])
    equal = same(original, programs.weights())
    for part in ("classifier", "simclr", "model"):
        assert not equal[f"{part}.{'backbone.' if part == 'model' else ''}conv1.weight"]
    assert not equal["loss.W"]
