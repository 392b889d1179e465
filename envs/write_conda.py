"""Write the conda environments of the rules, workflow/envs/KIND.yaml, from the lock files (`make lock`).

Snakemake copies such a file to another folder, so it cannot refer to the lock: it lists the same versions.
Needs only Python.
"""

from pathlib import Path

from environment import PIN

PROJECT = Path(__file__).resolve().parents[1]
KINDS = {"cpu": "machines without an NVIDIA GPU", "gpu": "machines with an NVIDIA GPU"}


def pins(lock):
    """The packages of a lock file's text, each as ``name==version`` or ``name==version ; marker``."""
    return [
        f"{name}=={version}{' ; ' if marker else ''}{marker}"
        for name, version, marker in PIN.findall(lock)
    ]


def environment(kind):
    """Text of the environment file for ``kind``, one of `KINDS`."""
    lines = [
        f"# For {KINDS[kind]}: the versions of envs/{kind}.lock. `make lock` writes it; do not edit it.",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        "  - python =3.11",
        "  - pip",
        "  - pip:",
    ]
    lock = (PROJECT / "envs" / f"{kind}.lock").read_text(encoding="utf-8")
    return "\n".join([*lines, *(f'      - "{pin}"' for pin in pins(lock))]) + "\n"


def main():
    for kind in KINDS:
        path = PROJECT / "workflow" / "envs" / f"{kind}.yaml"
        path.write_text(environment(kind), encoding="utf-8")


if __name__ == "__main__":
    main()
