"""Show a study while it runs: a page that renews itself, and one line on the terminal.

It works beside a running Snakemake, before it starts and after it has ended, takes no lock of Snakemake and
changes no file of the study. It ends when the study is finished, or by Ctrl-C.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dmlstudy.core.console import printable, run
from dmlstudy.core.files import StudyError, write_text
from dmlstudy.core.options import check_number
from dmlstudy.pages.watch_page import watch_page
from dmlstudy.plan import snapshot
from dmlstudy.plan.run_journal import read_runs
from dmlstudy.plan.time_left import usable
from dmlstudy.plan.training_progress import read_json

PROGRAM = Path(__file__).with_name("list_jobs.py")
# Seconds after which a plan is made again that did not know how many images there are.
AGAIN = 60
FINISHED = "The study is finished. This page is not renewed any more."
STOPPED = "The watch was ended. Start it again to go on: make watch."


def planned(options):
    """The plan of `job_list.write_jobs`, from a process of its own. StudyError with Snakemake's words."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "jobs.json"
        command = [sys.executable, PROGRAM, "--out", out, *options]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            return json.loads(out.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            words = found.stderr.strip() or found.stdout.strip() or "no reason given"
            raise StudyError(f"Snakemake cannot plan this study:\n{words[-3000:]}") from None


class Watch:
    """Takes snapshots of a study. ``options``: of Snakemake; ``cores``, ``gpu``: if no Snakemake runs."""

    def __init__(self, options, cores=None, gpu=None):
        self.options, self.cores, self.gpu = options, cores, gpu
        self.plan, self.seen = None, None

    def take(self):
        """The `Snapshot` of now. Plans again when a Snakemake has begun or ended since the last plan."""
        runs = read_runs()
        seen = [(run.path, run.alive) for run in runs]
        if seen != self.seen or self.images_are_missing():
            self.asked = time.time()
            try:
                self.plan, self.begun = planned(self.options), self.asked
            except StudyError:
                # While files change a plan may fail; the one before is still right about what there is to do.
                if self.plan is None:
                    raise
            self.seen = seen
            runs = read_runs()
        estimate = usable(read_json(self.plan["estimate"]))
        return snapshot.take(self.plan, runs, self.begun, estimate, self.cores, self.gpu)

    def images_are_missing(self):
        """Whether the plan did not know how many images there are, and is so old that it may know now."""
        missing = any(job["training"] and job["work"] is None for job in self.plan["jobs"])
        return missing and time.time() - self.asked > AGAIN


class Line:
    """One line on the terminal that is rewritten in place; elsewhere a line whenever it changes."""

    def __init__(self, stream):
        self.stream, self.before = stream, None

    def show(self, text):
        text = printable(text)
        if self.stream.isatty():
            width = shutil.get_terminal_size().columns
            # The last column stays free: some terminals would begin a new line.
            self.stream.write(f"\r\x1b[2K{text[: max(1, width - 1)]}")
        elif text != self.before:
            self.stream.write(f"{text}\n")
        self.before = text
        self.stream.flush()

    def end(self):
        if self.stream.isatty() and self.before is not None:
            self.stream.write("\n")
            self.stream.flush()


def follow(watch, every, line, once=False):
    """Show the study until it is finished."""
    found = None
    try:
        while True:
            found = watch.take()
            last = found.finished or once
            ended = FINISHED if found.finished else STOPPED if once else ""
            page = Path(watch.plan["page"])
            page.parent.mkdir(parents=True, exist_ok=True)
            write_text(page, watch_page(found, seconds=every, ended=ended))
            if line.before is None:
                print(f"page: {page}", flush=True)
            line.show(snapshot.line(found))
            if last:
                return
            time.sleep(every)
    except KeyboardInterrupt:
        if found is not None:
            write_text(watch.plan["page"], watch_page(found, seconds=every, ended=STOPPED))
    finally:
        line.end()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], epilog="Further options are passed to Snakemake."
    )
    parser.add_argument("--configfile", nargs="*", default=[], help="as given to Snakemake")
    parser.add_argument("--every", type=float, default=5, help="seconds between two pages")
    parser.add_argument("--once", action="store_true", help="write the page once and end")
    parser.add_argument("--cores", type=int, help="cores to reckon with if no Snakemake runs")
    parser.add_argument("--gpu", type=int, default=1, help="GPU slots, if no Snakemake runs")
    args, options = parser.parse_known_args()
    if args.configfile:
        options += ["--configfile", *args.configfile]

    def work():
        check_number("--every", args.every, above=0)
        check_number("--gpu", args.gpu, least=0)
        if args.cores is not None:
            check_number("--cores", args.cores, least=1)
        follow(Watch(options, args.cores, args.gpu), args.every, Line(sys.stdout), args.once)

    try:
        run(work)
    except KeyboardInterrupt:
        # While the first plan was made.
        print(file=sys.stderr)


if __name__ == "__main__":
    main()
