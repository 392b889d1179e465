"""Which features and which way of answering serve somebody's photographs, without training.

Writes a configuration for a folder that holds a folder of photographs per class, and runs the workflow for
the page about it. docs/quick.md explains the page.
"""

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

import yaml

from dmlstudy.core.console import run
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.plan import quick
from dmlstudy.plan.layout import Layout
from dmlstudy.plan.reading import study_of
from dmlstudy.plan.sources import read_yaml
from dmlstudy.plan.study import ALL_CLASSES

PROJECT = Path(__file__).resolve().parents[2]
CONFIG = PROJECT / "config" / "quick.yaml"
HEADER = "# Written by make quick from config/quick.yaml. It is written anew each time.\n"


def written(args):
    """Write the configuration; returns its path."""
    if not args.photos:
        raise StudyError(
            "give a folder that holds a folder of photographs per class: make quick PHOTOS=path/to/photos"
        )
    if args.config and not Path(args.config).is_file():
        raise StudyError(f"CONFIG={args.config}: no such configuration")
    name = args.name or quick.name_of(args.photos)
    quick.check_name(name)
    sizes = quick.class_sizes(args.photos, f"results/quick/{name}/x")
    backbones = quick.backbones_of(args.backbones) if args.backbones else None
    config = quick.configuration(read_yaml(CONFIG), args.photos, name, sizes, backbones)
    path = Path(config["results_dir"]) / "quick.yaml"
    write_text(path, HEADER + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    unseen = config["protocol"]["unseen_classes"]
    words = "1 class plays a new one" if unseen == 1 else f"{unseen} classes play new ones"
    print(
        f"{sum(sizes.values()):,} photographs of {len(sizes)} classes; at a time, {words}",
        flush=True,
    )
    return path


def snakemake(target, configfiles, cores):
    """Run the workflow for a target; prints the command first. Returns the exit code."""
    words = ["-m", "snakemake", "--cores", cores, target, "--configfile", *map(str, configfiles)]
    if Path.cwd() != PROJECT:
        words += ["--snakefile", str(PROJECT / "Snakefile")]
    print(f"$ python {shlex.join(words)}", flush=True)
    return subprocess.run([sys.executable, *words]).returncode


def weights_there(study):
    """{backbone: whether its weights are there} of what the study compares."""
    files = Layout(study.config["results_dir"], study, by_digest=str)
    found = {}
    for name in study.unfitted:
        entry = study.experiments[name]
        path = files.weights(entry["initializer"], entry["backbone"], ALL_CLASSES, study.seeds[0])
        found[entry["backbone"]] = Path(path["weights"]).is_file()
    return found


def sentence_about(found, args):
    """What can be done about weights that could not be had; ``found``: see `weights_there`."""
    typed = dict(quick.backbones_of(args.backbones)) if args.backbones else {}
    missing = [name for name, there in found.items() if not there]
    others = [
        name if typed.get(name) is None else f"{name}={typed[name]}"
        for name, there in found.items()
        if there
    ]

    def command(backbones):
        given = {
            "PHOTOS": args.photos,
            "CONFIG": args.config,
            "NAME": args.name,
            "BACKBONES": shlex.join(backbones),
        }
        words = (f"{key}={shlex.quote(value)}" for key, value in given.items() if value)
        return f"make quick {' '.join(words)}"

    with_files = [*others, *(f"{name}=path/to/file.pth" for name in missing)]
    text = (
        f"the weights of {', '.join(missing)} could not be had (the reason is above), so nothing was "
        f"computed. If you have them as a file, say where: {command(with_files)}"
    )
    return f"{text} To go on without them: {command(others)}" if others else text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="folder that holds a folder of photographs per class")
    parser.add_argument(
        "--backbones",
        help="such as 'resnet18 resnet50=weights/resnet50.pth', which names a local file of weights "
        "(default: those of config/quick.yaml)",
    )
    parser.add_argument("--config", help="configuration that changes further keys")
    parser.add_argument("--name", help="name of the results (default: that of the folder)")
    parser.add_argument("--cores", default="all")
    args = parser.parse_args()

    def work():
        begun = time.monotonic()
        path = written(args)
        configfiles = [path, *([args.config] if args.config else [])]
        if snakemake("quick_weights", configfiles, args.cores):
            found = weights_there(study_of(PROJECT, configfiles))
            if all(found.values()):
                raise StudyError("nothing was computed; Snakemake's messages above say why")
            raise StudyError(sentence_about(found, args))
        if snakemake("quick", configfiles, args.cores):
            raise StudyError(
                "no page was made; the last lines above say why. All problems of the photographs at once: "
                f"make check-data CONFIG={shlex.quote(str(path))}"
            )
        print()
        results = study_of(PROJECT, configfiles).config["results_dir"]
        print(Path(results, "combinations", "answers.txt").read_text(encoding="utf-8"), end="")
        print(f"done in {time.monotonic() - begun:.0f} s")

    run(work)


if __name__ == "__main__":
    main()
