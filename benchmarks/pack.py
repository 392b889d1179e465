"""Does packing use all cores? Its rate beside one core's of the plain loop, on the same files.

    .venv/bin/python benchmarks/pack.py [--images 10000] [--threads 2] [--rounds 3]

Images of 500 × 375 are drawn (a few hundred; the others are copies under names of their own).
Each round packs all of them and, right before and after, runs the plain loop on a share of them:
Pillow's decoding, EXIF orientation, RGB, the same antialiased resize, one process, one thread.
Medians over rounds. On a busy machine the rates tell little; processor time per image, printed beside
them, tells what packing adds to the plain loop's work. Memory of the packing process is asked of the kernel while it works; pixels of all
images are compared with the plain loop's. Ends with 1 if packing needs 2 GB or, from 10,000 images
on, is below 0.8 × threads.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import (
    PROGRAMS,
    SIZE,
    add_results_option,
    machine,
    make_images,
    run_watched,
    write_results,
)
from PIL import Image, ImageOps

FULL_SIZE = 10_000


def plain(path, size):
    """The reference: what a PIL data loader does. Array (height, width, 3)."""
    with Image.open(path) as image:
        image = ImageOps.exif_transpose(image).convert("RGB")
    width, height = image.size
    if width <= height:
        target = size, int(size * height / width)
    else:
        target = int(size * width / height), size
    return np.asarray(image.resize(target, Image.Resampling.BILINEAR))


def pack(folder, manifest, resize, threads, out):
    """Run the program that the rule runs. Returns (seconds, peak anonymous, peak resident bytes)."""
    command = [sys.executable, PROGRAMS / "pack.py", "--images", folder, "--manifest", manifest]
    command += ["--resize", resize, "--threads", str(threads), "--out", out]
    return run_watched(command)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=FULL_SIZE)
    parser.add_argument("--distinct", type=int, default=400)
    parser.add_argument("--sample", type=int, default=1000, help="images of a plain loop")
    parser.add_argument("--size", type=int, default=246)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    add_results_option(parser)
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder)")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=args.folder) as working:
        folder = Path(working) / "images"
        folder.mkdir()
        mean = make_images(folder, args.images, args.distinct, turned_every=7)
        manifest, out = Path(working) / "manifest.csv", Path(working) / "pack"
        listing = [sys.executable, PROGRAMS / "list_images.py", "--images", folder]
        listing += ["--format", "folders", "--threads", str(args.threads), "--out", manifest]
        subprocess.run(list(map(str, listing)), check=True)
        paths = sorted(folder.glob("*/*.jpg"))
        sample = paths[:: max(1, len(paths) // args.sample)][: args.sample]

        def loop():
            begun, cpu = time.perf_counter(), time.process_time()
            for path in sample:
                plain(path, args.size)
            used.append((time.process_time() - cpu) / len(sample))
            return len(sample) / (time.perf_counter() - begun)

        used, packing_used = [], []

        loop()  # warm-up: files in the page cache, libraries loaded
        rates, singles, anonymous, resident = [], [], 0, 0
        for number in range(args.rounds):
            before = loop()
            children_before = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds, *memory = pack(folder, manifest, f"shorter{args.size}", args.threads, out)
            spent = resource.getrusage(resource.RUSAGE_CHILDREN)
            packing_used.append(
                (
                    spent.ru_utime
                    + spent.ru_stime
                    - children_before.ru_utime
                    - children_before.ru_stime
                )
                / len(paths)
            )
            after = loop()
            singles.append((before + after) / 2)
            rates.append(len(paths) / seconds)
            anonymous, resident = max(anonymous, memory[0]), max(resident, memory[1])
            print(
                f"round {number + 1}: {rates[-1]:.0f} images/s packed in {seconds:.1f} s, plain loop "
                f"{before:.0f} before and {after:.0f} after; load {os.getloadavg()[0]:.1f}",
                flush=True,
            )

        from dmlstudy.data.pack import Pack

        packed = Pack(out)
        known = {}
        for row, path in enumerate(paths):
            content = path.read_bytes()
            if content not in known:
                known[content] = plain(path, args.size)
            np.testing.assert_array_equal(packed.image(row), known[content])

    ratios = [rate / single for rate, single in zip(rates, singles, strict=True)]
    ratio = statistics.median(ratios)
    checks = {"below 2 GB resident": resident < 2e9}
    # The start of the processes takes about a second, which says nothing of a data set.
    if args.images >= FULL_SIZE:
        checks[f"at least 0.8 × {args.threads}"] = ratio >= 0.8 * args.threads
    lines = [
        f"{args.images} images of {SIZE[0]} × {SIZE[1]} (mean {mean / 1000:.0f} kB, {args.distinct} "
        f"distinct) to a shorter side of {args.size}; {machine('pillow')}",
        f"packing with {args.threads} processes, start included: {statistics.median(rates):.0f} images/s",
        f"plain loop on one core: {statistics.median(singles):.0f} images/s",
        f"processor time per image: {1000 * statistics.median(packing_used):.2f} ms packed, "
        f"{1000 * statistics.median(used[1:]):.2f} ms in the plain loop",
        f"ratio {ratio:.2f} = {ratio / args.threads:.2f} × {args.threads} cores (median of rounds)",
        f"peak memory: {anonymous / 1e6:.0f} MB anonymous, {resident / 1e6:.0f} MB resident",
        f"pixels of all {len(paths)} images equal the plain loop's",
        *(f"{'holds' if holds else 'DOES NOT HOLD'}: {text}" for text, holds in checks.items()),
    ]
    rows = [
        {"arm": "packed", "processes": args.threads, "images_per_second": statistics.median(rates)},
        {"arm": "plain loop", "processes": 1, "images_per_second": statistics.median(singles)},
    ]
    print()
    write_results(args.results, "pack", "\n".join(lines), rows)
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
