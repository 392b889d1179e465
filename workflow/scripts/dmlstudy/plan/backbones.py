"""What planning must know of backbones: the images that they expect, and whether they can be used.

The facts of the study's own ResNets are in their module. Other backbones need torch, so a program is
asked: once for all of them, and its answers are stored.
"""

import contextlib
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dmlstudy.core import registry, source_code
from dmlstudy.core.canonical import canonical_json
from dmlstudy.core.files import StudyError, write_json

PROGRAM = "describe_backbone.py"
# Bytes of the study's own ResNets, as `compute.memory.footprint` measures them: weights, and per pixel
# of an image what a training step keeps and the peak while images are embedded. Maps are rounded up, so
# a size counts as the next multiple of 16.
OWN_BYTES = {
    "resnet18": {"weights": 44_744_608, "kept": 461, "live": 141},
    "resnet50": {"weights": 94_245_032, "kept": 1816, "live": 222},
}
# Packages whose versions decide what a backbone is.
PACKAGES = ("torch", "torchvision", "timm")


class Describer:
    """Facts of backbones, from the registry's modules, from stored answers, or from a program.

    ``memory``: JSON file of answers, or None. ``command``: starts the program; default: with this
    interpreter, see `_command`. ``environment``: text that changes whenever the program's answers can change; default:
    this interpreter's versions of `PACKAGES`.
    """

    def __init__(self, memory=None, command=None, environment=None):
        self.memory = None if memory is None else Path(memory)
        self.command = command or _command()
        self.environment = versions() if environment is None else environment

    def __call__(self, names, image_size):
        """{name: {"interpolation", "batchnorm", "feature_dim", "parts", "footprint", "unpublished"}}.

        "footprint": {"weights", "kept", "live"} in bytes, see `compute.memory.Footprint`;
        "parts": {"blocks": how many are known, "normalisation": whether such layers have weights, "lora":
        whether it can be used}, for ``trained_parts``; "unpublished": None, or why there are no published weights. Of a backbone that cannot be used,
        {"problem": a sentence}. ``image_size``: in pixels.
        """
        facts = {name: _own(name, image_size) for name in names}
        asked = [name for name, known in facts.items() if known is None]
        remembered = self._remembered()
        keys = {name: self._key(name, image_size) for name in asked}
        new = [name for name in asked if keys[name] not in remembered]
        if new:
            found = self._ask(new, image_size)
            remembered |= {keys[name]: found[name] for name in new}
            if self.memory is not None:
                # If it cannot be written, the program is asked again next time.
                with contextlib.suppress(OSError, StudyError):
                    write_json(self.memory, remembered)
        return facts | {name: remembered[keys[name]] for name in asked}

    def _key(self, name, image_size):
        code = source_code.code_digest(PROGRAM, registry.backbone_piece(name))
        return canonical_json([name, image_size, self.environment, code])

    def _remembered(self):
        try:
            found = json.loads(self.memory.read_text(encoding="utf-8"))
        except (AttributeError, OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _ask(self, names, image_size):
        options = ["--image-size", str(image_size), "--backbones", *names]
        try:
            done = subprocess.run([*self.command, *options], capture_output=True, text=True)
        except OSError as error:
            raise StudyError(f"{self.command[0]}: cannot be started: {error.strerror}") from None
        if done.returncode:
            raise StudyError(f"{PROGRAM} {' '.join(options)} failed:\n{done.stderr[-2000:]}")
        try:
            # A container's own messages may stand before the answer.
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            raise StudyError(f"{PROGRAM} gave no answer: {done.stdout[-500:]}") from None


def _command():
    """Starts the program; as a fork where studies share processes that have imported torch (`start.py`)."""
    programs = source_code.PROGRAMS
    shared = os.environ.get("DML_FORK_SERVER", "off") != "off"
    starter = ["-S", str(programs / "start.py")] if shared else []
    return [sys.executable, *starter, str(programs / PROGRAM)]


def _own(name, image_size):
    """Facts that stand in a backbone's module, or a problem; None if a program must be asked."""
    piece, kind = registry.backbone_piece(name)
    problem = registry.unknown_family(name)
    if problem:
        return {"problem": problem}
    if kind != name:
        return None
    try:
        return {
            "interpolation": source_code.constant(piece, kind, "INTERPOLATION"),
            "batchnorm": source_code.constant(piece, kind, "BATCHNORM"),
            "feature_dim": source_code.constant(piece, kind, "FEATURE_DIM")[name],
            "parts": source_code.constant(piece, kind, "PARTS"),
            "footprint": {
                key: amount if key == "weights" else amount * (-(-image_size // 16) * 16) ** 2
                for key, amount in OWN_BYTES[name].items()
            },
            "unpublished": None,
        }
    except ValueError:
        # A family without its model.
        return None


def versions():
    """Versions of the packages that backbones come from, as text."""
    found = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)
