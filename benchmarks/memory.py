"""Memory of a training job at CUB's size, with memory-mapped packs.

    .venv/bin/python benchmarks/memory.py [--batch-size 128] [--steps 3] [--backbone resnet18]

Writes packs of 11,788 images (shorter sides 246 and 224, 5 GB of noise). A separate process trains some
steps on batches from the whole pack and embeds some batches, as train.py does. Its anonymous memory is
read from the kernel every 20 ms; pages of mapped files do not count. On a CPU most of it are the
activations of a step; on a GPU these are in GPU memory. Ends with exit code 1 above 4 GB.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
from measuring import add_results_option, at_least_one, machine, run_watched, write_results

LIMIT = 4e9
IMAGES = 11_788


def write_noise(folder, shorter):
    """A pack of equal images of CUB's usual size."""
    shape = (shorter, shorter * 4 // 3)
    size = 3 * shape[0] * shape[1]
    folder.mkdir()
    block = np.random.default_rng(0).integers(0, 256, size * 62, dtype=np.uint8)
    with open(folder / "pixels.bin", "wb") as stream:
        for start in range(0, IMAGES, 62):
            stream.write(block[: size * min(62, IMAGES - start)])
    np.savez(
        folder / "index.npz",
        offsets=np.arange(IMAGES, dtype=np.int64) * size,
        heights=np.full(IMAGES, shape[0]),
        widths=np.full(IMAGES, shape[1]),
    )


def train(args):
    """The job: some training steps over the whole pack, some embeddings; prints the device."""
    from training import recipe

    from dmlstudy.compute.devices import choose_device
    from dmlstudy.compute.embedding import embed, images_at_a_time
    from dmlstudy.data.pack import Pack
    from dmlstudy.train.trainer import Trainer

    device = choose_device(args.device)
    spec = recipe(args.backbone, 224, args.batch_size, "auto", device, args.threads)
    rows = np.linspace(0, IMAGES - 1, args.steps * args.batch_size).astype(np.int64)
    labels = np.arange(len(rows)) // 4 % 200
    trainer = Trainer(spec, Pack(Path(args.packs) / "train"), rows, labels, 200)
    trainer.train_epoch()
    images = trainer.images_of(Pack(Path(args.packs) / "test"))
    asked = np.linspace(0, IMAGES - 1, 3 * images_at_a_time(device, trainer.images.size)).astype(
        np.int64
    )
    embed(trainer.model, images, asked, spec.precision)


def main():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--batch-size", type=at_least_one, default=128)
    parser.add_argument("--steps", type=at_least_one, default=2)
    parser.add_argument("--threads", type=at_least_one, default=cores)
    parser.add_argument("--folder", help="where to write the packs (5.2 GB)")
    parser.add_argument("--packs", help=argparse.SUPPRESS)
    add_results_option(parser)
    args = parser.parse_args()
    if args.packs:
        train(args)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as working:
        for name, shorter in (("train", 246), ("test", 224)):
            write_noise(Path(working) / name, shorter)
        size = sum(path.stat().st_size for path in Path(working).glob("*/pixels.bin"))
        command = [sys.executable, __file__, "--packs", working, "--device", args.device]
        command += ["--backbone", args.backbone, "--batch-size", args.batch_size]
        command += ["--steps", args.steps, "--threads", args.threads]
        seconds, anonymous, resident = run_watched(command)
    holds = anonymous < LIMIT
    text = (
        f"{machine('torch')}\n\n{args.backbone}, 224 pixels, batches of {args.batch_size}, packs of "
        f"{size / 1e9:.1f} GB: peak {anonymous / 1e9:.2f} GB anonymous ({resident / 1e9:.2f} GB with "
        f"mapped files) in {seconds:.0f} s\n{'holds' if holds else 'DOES NOT HOLD'}: below "
        f"{LIMIT / 1e9:.0f} GB"
    )
    row = {
        "backbone": args.backbone,
        "batch_size": args.batch_size,
        "peak_anonymous_mb": anonymous / 1e6,
        "peak_resident_mb": resident / 1e6,
    }
    write_results(args.results, "memory", text, [row])
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
