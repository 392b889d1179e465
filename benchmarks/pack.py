"""Does packing use all cores? Its speed, compared with a plain loop on one core, on the same files.

    .venv/bin/python benchmarks/pack.py [--images 10000] [--threads 2] [--rounds 3]

Images of 500 × 375 pixels are drawn (a few hundred; the others are copies). Each round packs all of them
and, right before and after, runs the plain loop on some of them: decoding with Pillow, EXIF orientation,
RGB, the same antialiased resize; one process, one thread. Results are medians over rounds. On a busy
machine the speed says little; the CPU time per image shows the overhead of packing. The memory of the
packing process is read from the kernel while it runs. The pixels of all images are compared with those of
the plain loop. Ends with exit code 1 if packing needs 2 GB or, with 10,000 images or more, is slower than
0.8 × threads.
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
    at_least_one,
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
    """Run the program of the rule. Returns (seconds, peak anonymous bytes, peak resident bytes)."""
    command = [sys.executable, PROGRAMS / "pack.py", "--images", folder, "--manifest", manifest]
    command += ["--resize", resize, "--threads", str(threads), "--out", out]
    return run_watched(command)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=at_least_one, default=FULL_SIZE)
    parser.add_argument("--distinct", type=at_least_one, default=400)
    parser.add_argument(
        "--sample", type=at_least_one, default=1000, help="images for the plain loop"
    )
    parser.add_argument("--size", type=at_least_one, default=246)
    parser.add_argument("--threads", type=at_least_one, default=os.cpu_count())
    parser.add_argument("--rounds", type=at_least_one, default=3)
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

        loop()  # warm-up: fills the page cache, loads libraries
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
    # For small data the start of the processes (about a second) would dominate.
    if args.images >= FULL_SIZE:
        checks[f"at least 0.8 × {args.threads}"] = ratio >= 0.8 * args.threads
    lines = [
        f"{args.images} images of {SIZE[0]} × {SIZE[1]} (mean {mean / 1000:.0f} kB, {args.distinct} "
        f"distinct) to a shorter side of {args.size}; {machine('pillow')}",
        f"packing with {args.threads} processes, start included: {statistics.median(rates):.0f} images/s",
        f"plain loop on one core: {statistics.median(singles):.0f} images/s",
        f"CPU time per image: {1000 * statistics.median(packing_used):.2f} ms packed, "
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
