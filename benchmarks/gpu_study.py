"""Whole trainings and whole studies on a GPU: the workflow, several trainings at once, repeatability, goals."""

import hashlib
import importlib.util
import multiprocessing
import os
import runpy
import shutil
import signal
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from gpu_setting import Worker, estimate_program, has_snakemake, seconds_of
from gpu_steps import epoch_of
from measuring import PROGRAMS, PROJECT, drawn_dataset, in_turn, ratio

from dmlstudy.compute.embedding import embed
from dmlstudy.core.files import read_json
from dmlstudy.plan import projection
from dmlstudy.plan.image_counts import images_of
from dmlstudy.train.trainer import Trainer

# Images per second that a ResNet18 shall train and embed at 224 pixels, and minutes for the published study.
TRAINING_GOAL, EMBEDDING_GOAL, STUDY_GOAL = 16_000, 50_000, 60
# The rules whose time the estimate tells.
RULES = {"run": "train", "initializer": "pretrain", "features": "compute_features"}
CUB = 11_788


def drawn_study(setting):
    """A configuration: the published study on drawn images of CUB's number and size, with few epochs.

    Nothing is downloaded: experiments that start from ImageNet start from random weights.
    """
    epochs = {"recipe": {"epochs": setting.epochs}}
    return {
        "results_dir": "results/drawn",
        "dataset": drawn_dataset(200, 59, 375, 7),
        "substitute_initializers": {"imagenet": "scratch"},
        "initializers": {"classifier": epochs, "simclr": epochs},
        "protocol": {"epochs": setting.epochs, "compute_threads": min(4, setting.threads)},
    }


def copy_of_project(folder):
    """A copy in which the workflow runs, so that results and records of this one stay as they are."""
    for name in ("Snakefile", "config", "workflow", "profiles"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, folder / name)


def configuration(setting, folder):
    """Paths of the configuration files of the part ``workflow``."""
    if setting.study:
        return [str(Path(path).resolve()) for path in setting.study]
    study = drawn_study(setting)
    if not importlib.util.find_spec("wandb"):
        study["tracking"] = {"mode": "disabled"}
    path = folder / "drawn.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return [str(path)]


def estimate_in(folder, files, seconds):
    """What `make estimate` prints in a folder, where it also keeps the rates."""
    os.chdir(folder)
    estimate_program()
    output = folder / "estimate.txt"
    sys.argv = ["estimate.py", "--seconds", str(seconds), "--configfile", *files]
    with open(output, "w", encoding="utf-8") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        try:
            runpy.run_path(str(PROGRAMS / "estimate.py"), run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise RuntimeError(output.read_text(encoding="utf-8")) from None
        sys.stdout.flush()
    return output.read_text(encoding="utf-8")


def estimated_by_rule(folder, files):
    """{rule: (estimated seconds of its jobs, number of them)} from the rates that are kept in a folder."""
    study = study_of(files)
    kept = read_json(folder / projection.RATES)
    found = {}
    for job in projection.runs(study, counts(study)):
        rates = {projection.step_of(job.recipe): kept["steps"][projection.step_text(job.recipe)]}
        seconds, number = found.get(RULES.get(job.kind, job.kind), (0.0, 0))
        seconds += sum(projection.seconds(job, rates)) + kept["start"]
        found[RULES.get(job.kind, job.kind)] = seconds, number + 1
    return found


def study_of(files):
    return estimate_program().study_of(PROJECT, files)


def counts(study):
    """{data set: number of images}. A data set that is not here has CUB's number."""
    return {name: images_of(study, name, CUB) for name in study.datasets}


def run_snakemake(folder, files, setting):
    """Run the workflow as a person starts it; returns (exit code or None for too little time, output)."""
    command = [sys.executable, "-m", "snakemake", *setting.targets, "--cores", "all"]
    command += ["--resources", "gpu=1", "--configfile", *files]
    output = folder / "output.txt"
    with open(output, "w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait(max(1, setting.left()))
        except subprocess.TimeoutExpired:
            # It ends its jobs.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            code = None
    return code, output.read_text(encoding="utf-8", errors="replace")


def workflow(setting, report):
    """The part ``workflow``: each rule's time beside the estimate."""
    if not has_snakemake():
        report.say("left out: Snakemake is not installed here")
        return
    folder = setting.working / "workflow"
    folder.mkdir()
    copy_of_project(folder)
    files = configuration(setting, folder)
    # A process of its own, so that its GPU memory is free again.
    report.say(Worker(estimate_in, folder, files, setting.seconds).result(max(1, setting.left())))
    estimated = estimated_by_rule(folder, files)
    begun, wall = time.time(), time.perf_counter()
    code, output = run_snakemake(folder, files, setting)
    wall = time.perf_counter() - wall
    by_rule = runpy.run_path(str(PROGRAMS / "time_spent.py"))["seconds_by_rule"]
    took = by_rule(folder / ".snakemake" / "metadata", begun)
    compare(report, took, estimated, whole=code == 0 and not setting.targets)
    ended = "ended" if code == 0 else "was stopped, for lack of time" if code is None else "FAILED"
    report.say(f"the workflow {ended} after {wall:.0f} s; {sum(map(len, took.values()))} jobs")
    report.row(rule="everything, wall time", seconds=wall, ended=code == 0)
    if code:
        raise RuntimeError(f"Snakemake ended with {code}:\n{output[-6000:]}")


def compare(report, took, estimated, *, whole):
    """Rows of each rule: what its jobs took, what was estimated, the error of the estimate in percent.

    ``took``: {rule: [seconds]}; ``estimated``: {rule: (seconds, number of jobs)}; ``whole``: whether all
    jobs ran. Otherwise the estimate counts for as many jobs as ran.
    """
    report.say(f"{'rule':<22}{'jobs':>5}{'seconds':>10}{'estimated':>11}{'error':>8}")
    for rule in sorted(took, key=lambda one: -sum(took[one])):
        seconds, number = sum(took[rule]), len(took[rule])
        row = {"rule": rule, "jobs": number, "seconds": seconds}
        told = f"{'–':>11}"
        if rule in estimated:
            expected, of = estimated[rule]
            expected *= 1 if whole else number / of
            row |= {"estimated": expected, "error_percent": 100 * (expected / seconds - 1)}
            told = f"{expected:>11.1f}{row['error_percent']:>+7.0f}%"
        report.row(**row)
        report.say(f"{rule:<22}{number:>5}{seconds:>10.1f}{told}")


def trainer_of(setting, recipe):
    dataset, pack, _ = setting.data()
    rows = dataset.images("train")
    return Trainer(recipe, pack, rows, dataset.labels[rows], dataset.num_seen)


def simclr(setting, report):
    """The part ``simclr``: an epoch with and without making the views."""
    device = setting.torch_device()
    trainer = trainer_of(setting, simclr_recipe(setting))
    count = len(trainer.rows)
    ready = [next(trainer.batches(1))] * -(-count // setting.simclr_batch)
    arms = {
        "with augmentation": trainer.train_epoch,
        "without": partial(epoch_of, trainer, ready),
    }
    seconds = in_turn({name: partial(seconds_of, arm, device) for name, arm in arms.items()}, setting.rounds)  # fmt: skip
    share = 1 / ratio(seconds, "with augmentation", "without")
    for name, times in seconds.items():
        rate = count / statistics.median(times)
        report.row(arm=name, images_per_second=rate, share=share, goal=0.8)
        report.say(f"{name:<18} {rate:>9.1f} images/s (two views of each)")
    report.say(f"share of the speed without augmentation: {share:.2f} (goal 0.80)")


def simclr_recipe(setting):
    """The study's SimCLR at the sizes of this run."""
    return setting.recipe(
        head={"kind": "simclr_projection", "hidden_dim": 512, "embedding_dim": 128},
        loss={"kind": "simclr", "temperature": 0.07},
        augmentation={"kind": "simclr"},
        optimizer={"kind": "adam", "lr": 0.0003, "weight_decay": 0.0001},
        batch_size=setting.simclr_batch,
    )


def train_beside(setting, barrier):
    """Seconds of an epoch and its number of images, beside the other processes of ``barrier``."""
    try:
        device = setting.torch_device()
        trainer = trainer_of(setting, setting.recipe())
        trainer.train_epoch()
    except BaseException:
        # The others need not wait for it.
        barrier.abort()
        raise
    barrier.wait(300)
    return seconds_of(partial(epochs_of, trainer, setting.steps), device), len(trainer.rows)


def epochs_of(trainer, number):
    for _ in range(number):
        trainer.train_epoch()


def together(setting, report):
    """The part ``together``: 1, 2, 3 trainings on one card."""
    setting.data()
    alone = None
    for number in setting.at_once:
        barrier = multiprocessing.get_context("fork").Barrier(number)
        workers = [Worker(train_beside, setting, barrier) for _ in range(number)]
        try:
            found = [worker.result(max(1, setting.left())) for worker in workers]
        finally:
            for worker in workers:
                worker.end()
        # All begin at the same moment; the slowest says when all are done.
        images = sum(count for _, count in found) * setting.steps
        rate = images / max(seconds for seconds, _ in found)
        alone = alone or rate
        report.row(trainings=number, images_per_second=rate, times_one=rate / alone)
        report.say(f"{number} at a time: {rate:>9.1f} images/s in total, {rate / alone:.2f} × one")


def digest_after(setting, recipe):
    """Digest of all weights after two epochs of a training."""
    setting.torch_device()
    trainer = trainer_of(setting, recipe)
    epochs_of(trainer, 2)
    found = hashlib.sha256()
    for tensor in trainer.model.state_dict().values():
        found.update(tensor.cpu().numpy().tobytes())
    return found.hexdigest()


def same(setting, report):
    """The part ``same``: two trainings, each in its own process, give the same weights bit for bit."""
    setting.data()
    recipes = {
        "EPSHN": setting.recipe(),
        "ArcFace": setting.recipe(loss={"kind": "arcface"}),
        "ProxyNCA": setting.recipe(loss={"kind": "proxy_nca"}),
        "cross-entropy": setting.recipe(loss={"kind": "crossentropy"}, head={"kind": "none"}),
        "SimCLR": simclr_recipe(setting),
    }
    for name, recipe in recipes.items():
        if setting.left() <= 0:
            report.say(f"left out for lack of time: {name}")
            continue
        with report.attempt(name):
            digests = {
                Worker(digest_after, setting, recipe).result(max(1, setting.left()))
                for _ in range(2)
            }
            equal = len(digests) == 1
            report.row(training=name, same_bits=equal)
            report.say(f"{name:<14} {'same weights, bit for bit' if equal else 'WEIGHTS DIFFER'}")


def best_rate(work, count, device, rounds):
    """Images per second of the median of some rounds, after a warm-up."""
    work()
    return count / statistics.median(seconds_of(work, device) for _ in range(rounds))


def real(setting, report):
    """The part ``real``: training and embedding of images in a pack, and the published study's time."""
    device = setting.torch_device()
    _, _, test_pack = setting.data()
    trainer = trainer_of(setting, setting.recipe())
    report.say(
        f"{setting.backbones[0]}, EPSHN, {setting.size} pixels, batches of {setting.batch}, "
        f"{len(trainer.rows)} training images, {trainer.images.pack.pixels.nbytes / 1e9:.2f} GB "
        f"{'on the host' if trainer.images.cut_on_host else 'on the device'}"
    )
    images = trainer.images_of(test_pack)
    everything = np.arange(len(test_pack))
    embedding = partial(embed, trainer.model, images, everything, trainer.recipe.precision)
    rates = (
        best_rate(trainer.train_epoch, len(trainer.rows), device, setting.rounds),
        best_rate(embedding, len(everything), device, setting.rounds),
    )
    for what, rate, goal in zip(("trains", "embeds"), rates, (TRAINING_GOAL, EMBEDDING_GOAL), strict=True):  # fmt: skip
        report.row(what=what, value=rate, unit="images/s", goal=goal, reached=rate >= goal)
        report.say(f"{what} {rate:.1f} images/s (goal {goal})")
    del trainer, images, embedding
    reckon(setting, report, rates)


def reckon(setting, report, measured):
    """What a whole study takes: the estimate's own code, with what was measured in place of the baseline's step.

    ``measured``: (trained, embedded) images per second of the baseline.
    """
    estimate = estimate_program()
    study = study_of(setting.study)
    jobs = projection.runs(study, counts(study))
    recipes = {projection.step_of(job.recipe): job.recipe for job in jobs}
    rates = {step: estimate.measure(recipe, setting.seconds) for step, recipe in recipes.items()}
    baseline = study.run_recipe(study.config["baseline"], study.seeds[0])
    step = projection.step_of(baseline)
    rates[step] = (*measured, rates[step][2])
    # Imports torch once more, which a program that shows nothing but that it works can save.
    start = 0.0 if setting.small else estimate.starting_seconds()
    lines, total = estimate.table(study, jobs, rates, start)
    report.say("\n".join(lines))
    minutes = total / 60
    report.row(what="study", value=minutes, unit="minutes", goal=STUDY_GOAL, reached=minutes <= STUDY_GOAL)  # fmt: skip
    report.say(
        f"{len(jobs)} trainings, one at a time, {start:.1f} s to start each: {minutes:.1f} minutes "
        f"(goal {STUDY_GOAL})"
    )
