"""Build the image that rules run in, with apptainer, podman or docker, whichever is there.

usage: build.py [cpu|gpu]        (`make container`)

apptainer (or singularity) writes ``containers/dml-KIND.sif``, the path that the rules' ``container:``
names. podman and docker keep ``dml-for-classification:KIND`` in their own store. An image whose label has
the lock's digest is left as it is. Needs Python alone, and prints the commands that it runs.

From the environment: ``BUILDER``, to choose one of them, and ``BUILD_OPTIONS``, words for its ``build``
command (another base image, a certificate that pip must trust).
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
LABEL = "dml.lock.sha256"
# In this order: rules are run in containers by apptainer alone.
BUILDERS = ("apptainer", "singularity", "podman", "docker")


def find_builder(wanted):
    """The program to build with; SystemExit with a sentence where there is none."""
    names = ", ".join(BUILDERS)
    if wanted and wanted not in BUILDERS:
        sys.exit(f"BUILDER is {wanted}; it can be one of: {names}.")
    if wanted and not shutil.which(wanted):
        sys.exit(f"BUILDER is {wanted}, which is not on the PATH.")
    found = wanted or next(filter(shutil.which, BUILDERS), None)
    return found or sys.exit(f"To build an image, install one of: {names}.")


def label(command, labels_of):
    """The digest in the label of the image that ``command`` inspects; None where there is none."""
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return (labels_of(json.loads(done.stdout)) or {}).get(LABEL) if done.returncode == 0 else None


def run(command):
    """Print a command and run it; SystemExit with a sentence where it fails."""
    print("$", shlex.join(command), flush=True)
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    if code:
        sys.exit(f"{command[0]} could not build the image (exit code {code}); its words are above.")


def build(builder, kind, options):
    """Build the image of ``envs/KIND.lock`` unless it is there."""
    lock = f"envs/{kind}.lock"
    digest = hashlib.sha256((PROJECT / lock).read_bytes()).hexdigest()
    arguments = ["--build-arg", f"KIND={kind}", "--build-arg", f"LOCK_SHA256={digest}", *options]
    if builder in ("apptainer", "singularity"):
        image, part = f"containers/dml-{kind}.sif", f"containers/part-{kind}.sif"
        inspect = [builder, "inspect", "--json", "--labels", image]
        found = label(inspect, lambda answer: answer["data"]["attributes"]["labels"])
        command = [builder, "build", "--force", *arguments, part, "containers/dml.def"]
    else:
        image, part = f"dml-for-classification:{kind}", None
        inspect = [builder, "image", "inspect", image]
        found = label(inspect, lambda answer: answer[0]["Config"]["Labels"])
        # The context holds the locks alone: the project does not go into the image.
        recipe = ["--file", "containers/Containerfile", "--tag", image]
        command = [builder, "build", *arguments, *recipe, "envs"]
    if found == digest:
        print(f"{image} holds {lock} already")
        return
    try:
        run(command)
        if part:
            os.replace(PROJECT / part, PROJECT / image)
    finally:
        if part:
            (PROJECT / part).unlink(missing_ok=True)
    print(f"{image} holds {lock}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("cpu", "gpu"), nargs="?", default="cpu")
    kind = parser.parse_args().kind
    builder = find_builder(os.environ.get("BUILDER"))
    build(builder, kind, shlex.split(os.environ.get("BUILD_OPTIONS", "")))


if __name__ == "__main__":
    main()
