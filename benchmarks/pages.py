"""Time and size of the map and report of an experiment, at the size of CUB-200-2011.

    python benchmarks/pages.py [--images 11788] [--classes 200]

Embeddings (128-d) are random, images are pieces of photographs. Limits: 180 s for a map, 60 s and 15 MB
for a page. Times are those of whole programs, as the rules start them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from drawn_study import DrawnStudy


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=11_788)
    parser.add_argument("--classes", type=int, default=200)
    args = parser.parse_args()
    names = [f"{number + 1:03d}.Drawn_Bird_{number}" for number in range(args.classes)]
    with tempfile.TemporaryDirectory() as folder:
        study = DrawnStudy(
            Path(folder) / "study", names, args.images, args.classes // 10, {"drawn": 0.25, "drawn_anew": 0.25},
            photographs=400,
        )  # fmt: skip
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for title, step in (
            ("evaluation, of two experiments", study.evaluate),
            ("health", study.check_health),
            ("rejection, of two experiments", study.score_rejection),
            ("ways of answering, of two experiments", study.answer),
            ("comparison", study.compare),
            ("thumbnails of all images", study.thumbnails),
            ("map, both models", lambda: study.map("drawn")),
            ("page of the experiment", lambda: study.report("drawn")),
            ("page of all experiments", study.index),
        ):
            begun, spent = time.perf_counter(), os.times()
            result = step()
            spent = [
                after - before for before, after in zip(spent[2:4], os.times()[2:4], strict=True)
            ]
            text = f"{title}: {time.perf_counter() - begun:.1f} s ({sum(spent):.1f} s of CPU time)"
            if result is not None:
                text += f", {result.stat().st_size / 1e6:.1f} MB"
            print(text, flush=True)


if __name__ == "__main__":
    main()
