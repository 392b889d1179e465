"""Train a study's experiments on another machine that is lent for minutes, such as one with a GPU.

    train_elsewhere.py prepare --configfile my.yaml --out elsewhere     (here)
    train_elsewhere.py run --carried part_1 --store STORE --back BACK   (there, once for each part, then again)
    train_elsewhere.py collect --out elsewhere --back BACK              (here)

The other machine needs Python, torch and the folder of this project, no Snakemake and no network. What does
not fit into one call goes on in the next. See docs/performance.md.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.core.options import check_number, check_output
from dmlstudy.elsewhere import job as jobs

PROJECT = Path(__file__).resolve().parents[2]
MIB = 2**20
# What trainings import beside torch, and a machine with torch may lack; in the versions installed here.
WHEELS = ("pytorch-metric-learning", "faiss-cpu")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")  # fmt: skip
SMALLER, COLLECTED = "smaller.yaml", "collected.yaml"
# Lists the configuration files that trainings were prepared from.
MARK = "configfiles"


# Here: prepare.


def study_of(files):
    """The study of configuration files. The machine elsewhere has no Snakemake, so it is imported late."""
    from dmlstudy.plan import reading

    return reading.study_of(PROJECT, files)


def make(targets, files, cores, *options):
    """Make files by the ordinary rules, with further options of Snakemake."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(PROJECT / "Snakefile")]
    command += ["--cores", str(cores), *options, *targets, "--quiet", "all"]
    if files:
        command += ["--configfile", *map(str, files)]
    if subprocess.run(command, check=False).returncode:
        raise StudyError(f"Snakemake failed: {shlex.join(command)}")


def fetch_wheels(names, python, folder):
    """Download wheels for the other machine's Python; returns their paths."""
    from importlib.metadata import version

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    wanted = [name if "==" in name else f"{name}=={version(name)}" for name in names]
    if wanted:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:"]
        command += ["--python-version", python, "--implementation", "cp"]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        if subprocess.run([*command, "--dest", str(folder), *wanted], check=False).returncode:
            raise StudyError(f"no wheels for Python {python}: {', '.join(wanted)}")
    return sorted(folder.glob("*.whl"))


def smaller_study(study, files, args):
    """(study, files) of a copy with smaller photographs, in a results folder of its own."""
    import yaml

    from dmlstudy.elsewhere import preparing
    from dmlstudy.elsewhere.smaller import dataset_entry, make_smaller

    if study.synthetic:
        raise StudyError("drawn images are not made smaller; give --as-they-are")
    layout, dataset = preparing.layout_of(study), study.datasets[study.name]
    side = args.shorter
    if side is None:
        protocol = study.config["protocol"]
        side = round(protocol["image_size"] * max(1, protocol["resize_margin"]))
    manifest = layout.data(study.name, "manifest.csv")
    make([manifest], files, args.cores)
    out = Path(args.out)
    classes = make_smaller(
        out / "photographs",
        layout.image_folder(study.name),
        manifest,
        side,
        args.quality,
        max_pixels=dataset["max_pixels"],
        threads=args.cores,
    )
    name = f"{study.name}_shorter{side}"
    entry = {**dataset_entry(dataset, out / "photographs", classes), "name": name}
    changes = {"results_dir": f"{study.config['results_dir']}_shorter{side}", "dataset": entry}
    path = out / SMALLER
    write_text(path, yaml.safe_dump(changes, sort_keys=False, allow_unicode=True))
    return study_of([*files, path]), [*files, path]


def prepare(args):
    from dmlstudy.elsewhere import preparing

    check_number("--part-mib", args.part_mib, above=0)
    check_number("--quality", args.quality, least=1, most=95)
    for option in ("shorter", "checkpoint_every", "cores"):
        if getattr(args, option) is not None:
            check_number(f"--{option.replace('_', '-')}", getattr(args, option), least=1)
    out, files = Path(args.out), [Path(path) for path in args.configfile]
    check_output("--out", out, folder=True)
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise StudyError(
            f"--out {out}: this folder holds other files; give a new one, or one of an earlier prepare"
        )
    # Parts and wheels in it are replaced, so the folder is marked as ours.
    write_text(out / MARK, "".join(f"{path}\n" for path in files))
    study = study_of(files)
    if not args.as_they_are:
        study, files = smaller_study(study, files, args)
    make(preparing.inputs_here(study), files, args.cores)
    wheels = fetch_wheels(args.wheel, args.python, out / "wheels")
    job, index, left_out = preparing.prepare(
        study,
        out,
        device=args.device,
        part_bytes=int(args.part_mib * MIB),
        wheels=wheels,
        checkpoint_every=args.checkpoint_every,
    )
    write_text(out / MARK, "".join(f"{path}\n" for path in files))
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    print(
        f"{len(job['runs'])} runs of {len({run['experiment'] for run in job['runs']})} experiments"
    )
    for part in index["parts"]:
        print(
            f"{out / jobs.CARRIED / 'part_'}{part['name'].rpartition('.')[2]}: {part['bytes'] / MIB:.1f} MiB"
        )


# There: run.


def run(args):
    from dmlstudy.elsewhere import machine

    for option in ("minutes", "back_part_mib", "back_mib"):
        check_number(f"--{option.replace('_', '-')}", getattr(args, option), above=0)
    check_number("--at-once", args.at_once, least=1)
    check_number("--least-seconds", args.least_seconds, least=0)
    if args.threads is not None:
        check_number("--threads", args.threads, least=1)
    clock = machine.Clock(60 * args.minutes)
    for number in (signal.SIGTERM, signal.SIGINT):
        # What is finished is handed back all the same.
        signal.signal(number, lambda *_: clock.stop())
    summary = machine.run(
        args.store,
        args.carried,
        args.back,
        clock,
        threads=args.threads,
        at_once=args.at_once,
        least_seconds=args.least_seconds,
        retry=args.retry,
        part_bytes=int(args.back_part_mib * MIB),
        total_bytes=int(args.back_mib * MIB),
        models=not args.no_models,
        again=args.again,
    )
    if summary:
        show(summary)


def show(summary):
    for one in summary["runs"]:
        name = f"{one['experiment']} ({one['class_set']}, seed {one['seed']})"
        epochs = f"{one['epochs']} of {one['of_epochs']} epochs"
        cost = f", {one['cost']['total_seconds']:.0f} s" if one["cost"] else ""
        why = f": {one['why']}" if one["why"] else ""
        print(f"{name}: {one['state']}, {epochs}{cost}{why}")
    for one in summary["left_there"]:
        print(f"still there: {one}")


# Here: collect.


def collect(args):
    import yaml

    from dmlstudy.elsewhere import collecting, preparing

    out = Path(args.out)
    job = jobs.read(out)
    files = (out / MARK).read_text(encoding="utf-8").splitlines()
    study = study_of(files)
    preparing.check_unchanged(study, job)
    complete, without, last = collecting.collect(job, args.back)
    show(last)
    names, changes = collecting.configuration(job, complete)
    path = out / COLLECTED
    write_text(path, yaml.safe_dump(changes, sort_keys=False, allow_unicode=True))
    files.append(str(path))
    # Snakemake remembers what was trained here before. So it is told that these files are of the present
    # recipes: it then runs nothing for them now, but does if a recipe changes later.
    experiments = f"{job['results_dir']}/experiments"
    there = [
        f"{experiments}/{jobs.place(run)}/embeddings.npz"
        for run in complete
        if run["experiment"] in names
    ]
    make(there, files, 1, "--touch", "--force")
    targets = ["evaluation", f"{job['results_dir']}/comparison/index.html"]
    targets += [f"{experiments}/{name}/config.yaml" for name in names]
    if study.candidates.keys() & set(names):
        targets.append(f"{job['results_dir']}/comparison/tuning.csv")
    command = ["snakemake", "--cores", "all", *targets, "--configfile", *files]
    print(f"\n{len(complete)} of {len(job['runs'])} runs are in {job['results_dir']}")
    print(f"tables and page: {shlex.join(command)}")
    if without:
        print(
            f"{len(without)} of them have no {jobs.MODEL}: their own pages, which have heat maps, and naming "
            "photographs would train them again here. The command above does not."
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("prepare", help="make the parts to take along")
    one.add_argument("--configfile", nargs="*", default=[], help="as given to Snakemake")
    one.add_argument("--out", required=True, help="folder for job, parts and smaller photographs")
    one.add_argument("--as-they-are", action="store_true", help="carry the data set's own files")
    one.add_argument(
        "--shorter", type=int, help="shorter side of carried photographs; default: as packed"
    )
    one.add_argument("--quality", type=int, default=75, help="JPEG quality of carried photographs")
    one.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    one.add_argument("--part-mib", type=float, default=56, help="size of a part at most")
    one.add_argument("--python", default="3.12", help="Python of the other machine")
    one.add_argument("--wheel", nargs="*", default=list(WHEELS), help="packages to take along: NAME or NAME==VERSION")  # fmt: skip
    one.add_argument("--checkpoint-every", type=int, help="epochs between stored states")
    one.add_argument("--cores", type=int, default=os.cpu_count())
    one.set_defaults(work=prepare)
    one = verbs.add_parser("run", help="one call on the other machine")
    one.add_argument(
        "--carried", nargs="*", default=[], help="folders part_N that came with this call"
    )
    one.add_argument("--store", required=True, help="folder that the machine keeps between calls")
    one.add_argument("--back", required=True, help="folder for what is handed back")
    one.add_argument("--minutes", type=float, default=9, help="train no longer than this")
    one.add_argument(
        "--least-seconds", type=float, default=20, help="begin no run with less time left"
    )
    one.add_argument("--at-once", type=int, default=1, help="trainings at a time")
    one.add_argument("--threads", type=int, help="processes that decode; default: all cores")
    one.add_argument("--back-part-mib", type=float, default=15, help="size of a file at most")
    one.add_argument("--back-mib", type=float, default=60, help="size of all files at most")
    one.add_argument("--no-models", action="store_true", help="hand no weights back")
    one.add_argument("--again", action="store_true", help="hand everything back once more")
    one.add_argument("--retry", action="store_true", help="train failed runs once more")
    one.set_defaults(work=run)
    one = verbs.add_parser("collect", help="put what came back into the results folder")
    one.add_argument("--out", required=True, help="folder of prepare")
    one.add_argument("--back", nargs="+", required=True, help="folders that came back")
    one.set_defaults(work=collect)
    args = parser.parse_args()
    console.run(lambda: args.work(args))


if __name__ == "__main__":
    main()
