"""Build the container image that rules run in, with apptainer, podman or docker.

usage: build.py [cpu|gpu]        (`make container`)

The first installed program is used. apptainer (or singularity) writes ``containers/dml-KIND.sif``, the
path in the rules' ``container:``. podman and docker store ``dml-for-classification:KIND``. An image is not
built again if its label has the digest of the lock file. Commands are printed before they run. Needs only
Python.

Environment variables: ``BUILDER`` chooses the program; ``BUILD_OPTIONS`` are further options for its
``build`` command (another base image, a certificate that pip must trust).
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
# In order of preference: Snakemake runs rules in containers with apptainer only.
BUILDERS = ("apptainer", "singularity", "podman", "docker")


def find_builder(wanted):
    """The program to build with; SystemExit with a message if there is none."""
    names = ", ".join(BUILDERS)
    if wanted and wanted not in BUILDERS:
        sys.exit(f"BUILDER is {wanted}; it can be one of: {names}.")
    if wanted and not shutil.which(wanted):
        sys.exit(f"BUILDER is {wanted}, which is not on the PATH.")
    found = wanted or next(filter(shutil.which, BUILDERS), None)
    return found or sys.exit(f"To build an image, install one of: {names}.")


def label(command, labels_of):
    """The digest in the label of an image (``command`` inspects it), or None."""
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return (labels_of(json.loads(done.stdout)) or {}).get(LABEL) if done.returncode == 0 else None


def run(command):
    """Print a command and run it; SystemExit with a message if it fails."""
    print("$", shlex.join(command), flush=True)
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    if code:
        sys.exit(
            f"{command[0]} could not build the image (exit code {code}); its messages are above."
        )


def build(builder, kind, options):
    """Build the image of ``envs/KIND.lock`` unless it exists."""
    lock = f"envs/{kind}.lock"
    digest = hashlib.sha256((PROJECT / lock).read_bytes()).hexdigest()
    arguments = ["--build-arg", f"KIND={kind}", "--build-arg", f"LOCK_SHA256={digest}", *options]
    if builder in ("apptainer", "singularity"):
        image, temporary = f"containers/dml-{kind}.sif", f"containers/tmp-{kind}.sif"
        inspect = [builder, "inspect", "--json", "--labels", image]
        found = label(inspect, lambda answer: answer["data"]["attributes"]["labels"])
        command = [builder, "build", "--force", *arguments, temporary, "containers/dml.def"]
    else:
        image, temporary = f"dml-for-classification:{kind}", None
        inspect = [builder, "image", "inspect", image]
        found = label(inspect, lambda answer: answer[0]["Config"]["Labels"])
        # Only the folder of the locks is the build context: the project is not part of the image.
        recipe = ["--file", "containers/Containerfile", "--tag", image]
        command = [builder, "build", *arguments, *recipe, "envs"]
    if found == digest:
        print(f"{image} is up to date with {lock}")
        return
    try:
        run(command)
        if temporary:
            os.replace(PROJECT / temporary, PROJECT / image)
    finally:
        if temporary:
            (PROJECT / temporary).unlink(missing_ok=True)
    print(f"{image} was built from {lock}")


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
