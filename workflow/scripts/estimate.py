"""How long the study of a configuration will take on this machine, before anything is downloaded.

Measures a few training steps, embeddings and searches of each kind of training that the configuration
has, on drawn pixels in memory, and multiplies. Downloads, packing, tables and pages are not in it.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from dmlstudy.core.console import run
from dmlstudy.core.options import check_number
from dmlstudy.plan import projection
from dmlstudy.plan.image_counts import images_of
from dmlstudy.plan.job_environment import fork_server_setting
from dmlstudy.plan.reading import study_of

PROJECT = Path(__file__).resolve().parents[2]


def prepared(recipe, images):
    """(trainer, function that embeds images, number of them) of a training like ``recipe``.

    ``images``: how many it trains on in an epoch.
    """
    import numpy as np

    from dmlstudy.compute.embedding import embed, images_at_a_time, normalised
    from dmlstudy.compute.embedding_model import build_backbone
    from dmlstudy.compute.features import Features, head_embeddings
    from dmlstudy.train.head_trainer import HeadTrainer
    from dmlstudy.train.trainer import Trainer

    side, batch = round(1.1 * recipe.image_size), recipe.batch_size
    rows = np.arange(images) % 64
    labels = np.arange(images) % batch // (recipe.samples_per_class or 2)
    recipe, classes = recipe.changed(epochs=1), len(set(labels))
    if not recipe.backbone_trains:
        width = build_backbone(recipe.backbone, recipe.image_size).feature_dim
        drawn = np.random.default_rng(0).normal(size=(8192, width)).astype(np.float32)
        trainer = HeadTrainer(recipe, Features(drawn), rows, labels, classes)

        def embedding():
            return normalised(head_embeddings(trainer.changing, trainer.inputs, recipe.precision))

        return trainer, embedding, len(drawn)
    shape = np.array([side] * 64), np.array([round(4 / 3 * side)] * 64)
    size = int(3 * shape[0][0] * shape[1][0])
    pixels = np.random.default_rng(0).integers(0, 256, 64 * size, dtype=np.uint8)
    pack = SimpleNamespace(
        pixels=pixels, offsets=np.arange(64) * size, heights=shape[0], widths=shape[1]
    )
    trainer = Trainer(recipe, pack, rows, labels, classes)
    many = np.arange(images_at_a_time(trainer.device, recipe.image_size)) % 64

    def embedding():
        # To the host, so that it has been done when the clock stops.
        return normalised(embed(trainer.model, trainer.images, many, recipe.precision))

    return trainer, embedding, len(many)


def measure(recipe, least_seconds):
    """Trained and embedded images per second of a training like ``recipe``, and pairs compared."""
    import numpy as np

    from dmlstudy.compute.devices import choose_device
    from dmlstudy.evaluate.search import nearest_neighbours

    # A GPU works ahead of the host within an epoch, and is waited for at its end.
    images = recipe.batch_size * (1 if choose_device(recipe.device).type == "cpu" else 8)
    trainer, embedding, many = prepared(recipe, images)

    def rate(work, count):
        work()
        begun, times = time.perf_counter(), 0
        while times < 2 or time.perf_counter() - begun < least_seconds:
            work()
            times += 1
        return times * count / (time.perf_counter() - begun)

    # As many as CUB-200-2011 has, give or take; what they hold does not matter.
    drawn = np.random.default_rng(0).normal(size=(8192, embedding().shape[1]))
    gallery = (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)
    queries = gallery[::4]

    def search():
        threads, on_gpu = recipe.compute_threads, trainer.device.type == "cuda"
        nearest_neighbours(queries, gallery, threads=threads, on_gpu=on_gpu)

    return (
        rate(trainer.train_epoch, images),
        rate(embedding, many),
        rate(search, len(queries) * len(gallery)),
    )


def starting_seconds():
    """How long a training job takes until it begins, as a study starts it.

    Where jobs are forks of a server that has imported their packages (see `start.py`), only the first job
    waits for it.
    """
    setting = fork_server_setting()
    folder = Path(__file__).parent
    command = [sys.executable, "-S", folder / "start.py", folder / "train.py", "--help"]
    environment = {**os.environ, "DML_FORK_SERVER": setting}
    for _ in range(2 if setting else 1):
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - begun


def table(study, jobs, rates, start):
    """Lines of text, and the seconds of everything."""
    order = {}
    for job in jobs:
        order.setdefault((job.kind, job.name), []).append(job)
    lines = [f"{'':44}models  images/s  training  evaluation  minutes"]
    total = 0.0
    for (kind, name), group in order.items():
        parts = [projection.seconds(job, rates) for job in group]
        training, evaluation = map(sum, zip(*parts, strict=True))
        all_of_it = training + evaluation + start * len(group)
        total += all_of_it
        title = name if kind == "run" else f"{kind} {name}"
        speed = rates[projection.step_of(group[0].recipe)][0]
        lines.append(
            f"{title:<44}{len(group):>6}  {speed:>8.1f}  {training / 60:>8.1f}"
            f"  {evaluation / 60:>10.1f}  {all_of_it / 60:>7.1f}"
        )
    return lines, total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configfile", nargs="*", default=[], help="as given to Snakemake")
    parser.add_argument("--images", type=int, help="of a data set that is not there yet")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    parser.add_argument("--seconds", type=float, default=5, help="to measure each step for")
    args = parser.parse_args()

    def work():
        if args.images is not None:
            check_number("--images", args.images, least=1)
        check_number("--jobs", args.jobs, least=1)
        check_number("--seconds", args.seconds, least=0)
        study = study_of(PROJECT, args.configfile)
        images = {name: images_of(study, name, args.images) for name in study.datasets}
        jobs = projection.runs(study, images)
        steps = {}
        for job in jobs:
            # An untrained row only embeds; a step of it is measured all the same.
            steps.setdefault(projection.step_of(job.recipe), job.recipe)
        start, rates = starting_seconds(), {}
        for number, (step, recipe) in enumerate(steps.items(), 1):
            rates[step] = measure(recipe, args.seconds)
            print(
                f"{number} of {len(steps)}: {recipe.backbone}, {recipe.loss['kind']}, "
                f"{recipe.augmentation['kind']}, {recipe.image_size} pixels, "
                f"batches of {recipe.batch_size}: trains "
                f"{rates[step][0]:.1f} images/s, embeds {rates[step][1]:.1f}",
                file=sys.stderr,
                flush=True,
            )
        projection.store_rates(rates, start)
        lines, total = table(study, jobs, rates, start)
        print("\n".join(lines))
        known = ", ".join(f"{name} {count:,} images" for name, count in images.items())
        print(f"\n{len(jobs)} trainings; {known}")
        print(f"one at a time, {start:.0f} s to start each: {total / 3600:.1f} hours")
        if args.jobs > 1:
            print(
                f"{args.jobs} at a time, if none slows another: {total / args.jobs / 3600:.1f} hours"
            )
        print("downloads, packing, tables and pages are not in it")

    run(work)


if __name__ == "__main__":
    main()
