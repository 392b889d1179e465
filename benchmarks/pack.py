"""Does packing use all cores? Its rate beside one core's of the plain loop, on the same files.

    .venv/bin/python benchmarks/pack.py [--pictures 10000] [--threads 2] [--rounds 3]

Pictures of 500 × 375 are drawn (a few hundred; the others are copies under names of their own).
Each round packs all of them and, right before and after, runs the plain loop on a share of them:
Pillow's decoding, EXIF orientation, RGB, the same antialiased resize, one process, one thread.
Medians over rounds. On a busy machine the rates tell little; processor time per picture, printed beside
them, tells what packing adds to the plain loop's work. Memory of the packing process is asked of the kernel while it works; pixels of all
pictures are compared with the plain loop's. Ends with 1 if packing is below 0.8 × threads or needs
2 GB.
"""

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow" / "scripts"))

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

PROGRAMS = Path(__file__).resolve().parents[1] / "workflow" / "scripts"
SIZE = (500, 375)


def draw(rng):
    """A picture with edges, gradients and grain: about 60 kB as JPEG, as CUB's photographs."""
    width, height = SIZE
    coarse = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for _ in range(25):
        x, y = rng.integers(0, width), rng.integers(0, height)
        a, b = rng.integers(10, 120, 2)
        pen.ellipse((x - a, y - b, x + a, y + b), fill=tuple(rng.integers(0, 256, 3).tolist()))
    picture = picture.filter(ImageFilter.GaussianBlur(1))
    grain = rng.normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def make_pictures(folder, count, distinct):
    """``count`` JPEGs in ``folder``/class, every seventh lying on its side; returns their mean size."""
    rng = np.random.default_rng(0)
    (folder / "class").mkdir()
    turned = Image.Exif()
    turned[274] = 6
    for index in range(min(distinct, count)):
        path = folder / "class" / f"{index:05}.jpg"
        draw(rng).save(path, quality=90, exif=turned if index % 7 == 0 else Image.Exif())
    for index in range(distinct, count):
        shutil.copyfile(
            folder / "class" / f"{index % distinct:05}.jpg", folder / "class" / f"{index:05}.jpg"
        )
    sizes = [path.stat().st_size for path in (folder / "class").iterdir()]
    return statistics.mean(sizes)


def plain(path, size):
    """The reference: what a PIL data loader does. Array (height, width, 3)."""
    with Image.open(path) as picture:
        picture = ImageOps.exif_transpose(picture).convert("RGB")
    width, height = picture.size
    if width <= height:
        target = size, int(size * height / width)
    else:
        target = int(size * width / height), size
    return np.asarray(picture.resize(target, Image.Resampling.BILINEAR))


def memory_of(pid):
    """(anonymous, resident) bytes of a process and its children; pages of mapped files are resident only."""
    anonymous = resident = 0
    for process in [pid, *children(pid)]:
        try:
            lines = Path(f"/proc/{process}/status").read_text().splitlines()
        except OSError:
            continue
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        anonymous += int(fields.get("RssAnon", "0").split()[0]) * 1024
        resident += int(fields.get("VmRSS", "0").split()[0]) * 1024
    return anonymous, resident


def children(pid):
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


def pack(folder, manifest, resize, threads, out):
    """Run the program that the rule runs. Returns (seconds, peak anonymous, peak resident bytes)."""
    command = [sys.executable, PROGRAMS / "pack.py", "--images", folder, "--manifest", manifest]
    command += ["--resize", resize, "--threads", str(threads), "--out", out]
    begun = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)))
    peaks, over = [(0, 0)], threading.Event()

    def watch():
        while not over.wait(0.02):
            peaks.append(memory_of(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - begun
    over.set()
    watcher.join()
    if code:
        sys.exit(f"packing failed with {code}")
    return seconds, *(max(values) for values in zip(*peaks, strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--distinct", type=int, default=400)
    parser.add_argument("--sample", type=int, default=1000, help="pictures of a plain loop")
    parser.add_argument("--size", type=int, default=246)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", help="where to work (default: the system's temporary folder)")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=args.folder) as working:
        folder = Path(working) / "images"
        folder.mkdir()
        mean = make_pictures(folder, args.pictures, args.distinct)
        manifest, out = Path(working) / "manifest.csv", Path(working) / "pack"
        listing = [sys.executable, PROGRAMS / "list_images.py", "--images", folder]
        listing += ["--format", "folders", "--threads", str(args.threads), "--out", manifest]
        subprocess.run(list(map(str, listing)), check=True)
        paths = sorted((folder / "class").iterdir())
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

        from dmlstudy.pack import Pack

        packed = Pack(out)
        known = {}
        for row, path in enumerate(paths):
            content = path.read_bytes()
            if content not in known:
                known[content] = plain(path, args.size)
            np.testing.assert_array_equal(packed.image(row), known[content])

    ratios = [rate / single for rate, single in zip(rates, singles, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"\n{args.pictures} pictures of {SIZE[0]} × {SIZE[1]} (mean {mean / 1000:.0f} kB, {args.distinct} "
        f"distinct) to a shorter side of {args.size}; {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, Pillow {Image.__version__}"
    )
    print(
        f"packing with {args.threads} processes, start included: {statistics.median(rates):.0f} images/s"
    )
    print(f"plain loop on one core: {statistics.median(singles):.0f} images/s")
    print(
        f"processor time per picture: {1000 * statistics.median(packing_used):.2f} ms packed, "
        f"{1000 * statistics.median(used[1:]):.2f} ms in the plain loop"
    )
    print(
        f"ratio {ratio:.2f} = {ratio / args.threads:.2f} × {args.threads} cores (median of rounds)"
    )
    print(f"peak memory: {anonymous / 1e6:.0f} MB anonymous, {resident / 1e6:.0f} MB resident")
    print(f"pixels of all {len(paths)} pictures equal the plain loop's")
    checks = {
        f"at least 0.8 × {args.threads}": ratio >= 0.8 * args.threads,
        "below 2 GB resident": resident < 2e9,
    }
    for text, holds in checks.items():
        print(f"{'holds' if holds else 'DOES NOT HOLD'}: {text}")
    sys.exit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
