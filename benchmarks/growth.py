"""How the costs of each rule's program grow with the data set, and how long a plan takes. No training.

    .venv/bin/python benchmarks/growth.py
    .venv/bin/python benchmarks/growth.py --sizes 1000/20 10000/200 60000/11318 120000/22634
    .venv/bin/python benchmarks/growth.py --what plans

A size is IMAGES/CLASSES. Programs run one at a time, with the study's own numbers of resamples and draws.
Photographs are JPEGs of 300 x 224, embeddings are random (128-d). Of several calls of a program at a size,
the fastest counts. What it costs at the size --start-up, which is almost nothing, is start-up. The exponent
says how CPU time without start-up grows from one size to the next: 1 is in proportion to the images, 2 to
their square. CPU time is compared, because it depends less than wall time on what else the machine does.
Writes growth.csv, growth.txt (a Markdown table) and growth.svg after each size.
"""

import argparse
import dataclasses
import itertools
import math
import os
import sys
import tempfile
from pathlib import Path

# One thread, so that the CPU time of a program is its work. Before NumPy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


from measuring import PROJECT, add_results_option, at_least_one, machine, write_results
from rule_programs import Cost, cost_of_command, run_data_programs, run_table_programs

from dmlstudy.pages.charts import COLOURS
from dmlstudy.pages.results.pictures import GRID, INK, MARKERS, drawn

# Belongs to the trainings, though it has no epochs here.
LEFT_OUT = "train.py"
# CPU seconds besides start-up below which growth cannot be told.
LEAST = 0.5
UNKNOWN = Cost(*[math.nan] * 5)
# A program grows faster than n log n if its exponent is higher by this: times vary by a tenth or two.
TOLERANCE = 0.15
# {title: (files of the configuration, further values)} of studies that are planned.
PLANS = {
    "plan of the published study": ((), ()),
    "plan with every block, 3 seeds, 3 draws": (
        ("extended.yaml", "frozen.yaml", "fine_tuning.yaml"),
        ("protocol={seeds: [42, 43, 44], unseen_draws: 3}",),
    ),
}


def size(text):
    """(images, classes) of a size on the command line."""
    numbers = tuple(at_least_one(part) for part in text.split("/"))
    if len(numbers) != 2 or numbers[0] < 4 * numbers[1]:
        raise argparse.ArgumentTypeError(f"{text}: must be IMAGES/CLASSES, four images a class")
    return numbers


def measured(folder, what, images, classes, dim, threads, draws):
    """{program: Cost} of all programs at one size."""
    costs = {}
    if "tables" in what:
        costs |= run_table_programs(Path(folder) / "tables", images, classes, dim, **draws).costs
    if "data" in what:
        costs |= run_data_programs(Path(folder) / "data", images, classes, threads=threads)[0].costs
    return {
        name: Cost(
            min(one.seconds for one in calls),
            min(one.cpu_seconds for one in calls),
            max(one.peak_mb for one in calls),
            max(one.written_mb for one in calls),
            max(one.largest_file_mb for one in calls),
        )
        for name, calls in costs.items()
        if name != LEFT_OUT
    }


def planned(folder, files, values):
    """`Cost` of planning a study that has no files yet, when its sources have been read once."""
    command = [sys.executable, "-m", "snakemake", "all", "--dry-run", "--quiet", "all"]
    command += ["--cores", 2, "--directory", folder, "--snakefile", PROJECT / "Snakefile"]
    if files:
        command += ["--configfile", *(PROJECT / "config" / name for name in files)]
    command += ["--config", "results_dir=results", *values]
    costs = [cost_of_command("snakemake", command) for _ in range(2)]
    return min(costs, key=lambda cost: cost.seconds)


def of_n_log_n(few, many):
    """The exponent of n log n between two numbers of images."""
    return 1 + math.log(math.log(many) / math.log(few)) / math.log(many / few)


def exponent(start, small, large):
    """(exponent, is it only a lower bound) of CPU time between two sizes; None if nothing can be told.

    ``small``, ``large``: (images, CPU seconds); ``start``: CPU seconds of the start-up. Where the smaller
    size takes too little to be told from the start-up, it is taken for the least that can be.
    """
    (few, before), (many, after) = small, large
    before, after = before - start, after - start
    if not after >= LEAST:
        return None
    return math.log(after / max(before, LEAST)) / math.log(many / few), before < LEAST


class Growth:
    """Costs of programs by size: ``sizes`` {(images, classes): {program: Cost}}, the start-up first."""

    def __init__(self):
        self.sizes, self.plans = {}, {}

    @property
    def programs(self):
        """Names of all programs, those that ever took longest first."""
        longest = {}
        for costs in self.sizes.values():
            for name, cost in costs.items():
                longest[name] = max(cost.cpu_seconds, longest.get(name, 0))
        return sorted(longest, key=lambda name: -longest[name])

    def cost(self, one, name):
        """`Cost` of a program at a size; of NaN where it was not measured."""
        return self.sizes[one].get(name, UNKNOWN)

    def exponents(self, name):
        """[(images before, images, (exponent, is a bound) or None)] of a program between sizes."""
        start, *sizes = sorted(self.sizes)
        seconds = [(one[0], self.cost(one, name).cpu_seconds) for one in sizes]
        base = self.cost(start, name).cpu_seconds
        pairs = itertools.pairwise(seconds)
        return [(few[0], many[0], exponent(base, few, many)) for few, many in pairs]

    def fast_growing(self):
        """Sentences on programs that grow faster than n log n."""
        for name in self.programs:
            for few, many, found in self.exponents(name):
                if found and found[0] > of_n_log_n(few, many) + TOLERANCE:
                    least = "at least " if found[1] else ""
                    yield f"{name}: {least}n^{found[0]:.2f} from {few:,} to {many:,} images"

    def rows(self):
        """What is written as growth.csv."""
        for one in sorted(self.sizes):
            for name, cost in self.sizes[one].items():
                found = next((e for _, many, e in self.exponents(name) if many == one[0]), None)
                yield self._row(name, cost, *one) | {"exponent": found[0] if found else None}
        for name, cost in self.plans.items():
            yield self._row(name, cost, None, None) | {"exponent": None}

    def _row(self, name, cost, images, classes):
        return {"what": name, "images": images, "classes": classes, **dataclasses.asdict(cost)}

    def text(self):
        """A Markdown table and the sentences below it."""
        lines = [machine("numpy", "pandas"), ""]
        if self.sizes:
            sizes = sorted(self.sizes)
            heads = ["program", "start-up", *(f"{images:,} / {n:,}" for images, n in sizes[1:])]
            heads += ["exponents", "wall s", "peak MB", "written MB", "largest file MB"]
            lines += [
                "CPU seconds by images / classes; the last four are of the largest size.",
                "",
            ]
            lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
            for name in self.programs:
                cells = [name, *(f"{self.cost(one, name).cpu_seconds:.1f}" for one in sizes)]
                found = [value for _, _, value in self.exponents(name)]
                cells.append(", ".join(_said(value) for value in found))
                last = self.cost(sizes[-1], name)
                cells += [f"{last.seconds:.0f}", f"{last.peak_mb:.0f}", f"{last.written_mb:.1f}"]
                cells.append(f"{last.largest_file_mb:.1f}")
                lines.append(f"| {' | '.join(cells)} |")
            fast = list(self.fast_growing()) or ["no program"]
            lines += ["", "Faster than n log n:", "", *(f"- {one}" for one in fast)]
        lines += [
            f"{name}: {cost.seconds:.1f} s, CPU {cost.cpu_seconds:.1f} s"
            for name, cost in self.plans.items()
        ]
        return "\n".join(lines)

    def picture(self):
        """SVG: CPU seconds without start-up by images, of the programs that take longest."""
        return drawn(_figure, self)


def _said(found):
    if found is None:
        return "–"
    return f"{'≥ ' if found[1] else ''}{found[0]:.2f}"


def _figure(growth):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, 4.6))
    axis = figure.subplots()
    start, *sizes = sorted(growth.sizes)
    images = [one[0] for one in sizes]
    shown = growth.programs[: len(MARKERS)]
    highest = 0.0
    for index, name in enumerate(shown):
        base = growth.cost(start, name).cpu_seconds
        values = [growth.cost(one, name).cpu_seconds - base for one in sizes]
        values = [value if value >= LEAST else math.nan for value in values]
        highest = max([highest, *(value for value in values if value == value)])
        style = {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index]}
        axis.plot(images, values, label=name.removesuffix(".py"), linewidth=1.4, **style)
    for label, line, power in (
        ("n log n", ":", lambda n: n * math.log(n)),
        ("n²", "--", lambda n: n * n),
    ):
        whole = [highest * power(n) / power(images[-1]) for n in images]
        axis.plot(images, whole, line, color=INK, linewidth=1, label=label)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(bottom=LEAST)
    axis.set_xticks(images, [f"{n:,}" for n in images])
    axis.minorticks_off()
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GRID, linewidth=0.8)
    axis.set_xlabel("images")
    axis.set_ylabel("CPU seconds without start-up")
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = ["1000/20", "10000/200", "60000/11318"]
    parser.add_argument("--sizes", type=size, nargs="+", default=[size(one) for one in sizes])
    parser.add_argument("--start-up", type=size, default=(100, 5))
    parser.add_argument("--what", nargs="+", choices=("tables", "data", "plans"), default=("plans", "tables", "data"))  # fmt: skip
    parser.add_argument("--dim", type=int, default=128, help="dimensions of the embeddings")
    parser.add_argument("--threads", type=at_least_one, default=1, help="for reading photographs")
    parser.add_argument("--bootstrap-draws", type=at_least_one, default=10_000)
    parser.add_argument("--enrolment-draws", type=at_least_one, default=10)
    parser.add_argument("--folder", help="where to write the inputs")
    add_results_option(parser)
    args = parser.parse_args()
    draws = {"bootstrap_draws": args.bootstrap_draws, "enrolment_draws": args.enrolment_draws}
    growth = Growth()

    def write():
        write_results(args.results, "growth", growth.text(), list(growth.rows()))

    if "plans" in args.what:
        for title, plan in PLANS.items():
            with tempfile.TemporaryDirectory(dir=args.folder) as working:
                growth.plans[title] = planned(working, *plan)
        write()
    what = set(args.what) - {"plans"}
    for images, classes in sorted({args.start_up, *args.sizes}) if what else ():
        with tempfile.TemporaryDirectory(dir=args.folder) as working:
            found = measured(working, what, images, classes, args.dim, args.threads, draws)
        growth.sizes[images, classes] = found
        write()
    if len(growth.sizes) > 1:
        (Path(args.results) / "growth.svg").write_text(growth.picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
