"""What a failed workflow prints last: each error once, in full, with its jobs and what to do next.

Snakemake prints an error among shell commands and its own exceptions. `FailureReport` repeats it below
everything else, when the process ends. It knows Snakemake's jobs only by their attributes.
"""

import atexit
import logging
import re
import sys
import time
from pathlib import Path

from dmlstudy.core.console import printable

# Jobs that are named per error, and lines of a log that are shown.
MOST_JOBS = 4
LAST_LINES = 12
# A line of a program's log, see `console.run`.
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", re.MULTILINE)
# Snakemake's text of an exception that our rule files raise: head, sentence, places in the files.
RAISED = re.compile(
    r'\A\w+ in file "?[^"\n]*\.smk"?, line \d+:\n(?P<sentence>.*?)(?:\n {2}File "[^\n]*)*\s*\Z',
    re.DOTALL,
)


def error_of(log, since=0.0):
    """(sentence, lines) that a program's log ends with; ``lines``: last lines of an unexpected error.

    ``log``: path; ``since``: the log must not be older (seconds since the epoch), since a job that
    never started leaves the log of an earlier attempt.
    """
    try:
        path = Path(log)
        text = path.read_text(encoding="utf-8", errors="replace").rstrip()
        # Clocks of file servers and other nodes differ a little.
        if path.stat().st_mtime < since - 60:
            text = ""
    except OSError:
        text = ""
    if not text:
        return "the job ended before its program began; Snakemake's messages above say more", []
    record = STAMP.split(text)[-1]
    if record.startswith("error: "):
        return record.removeprefix("error: "), []
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    if record.startswith("Traceback"):
        return f"an unexpected error: {lines[-1].strip()}", lines
    return (
        "the program was ended from outside, without an error of its own; perhaps the memory or the "
        "time was used up, or somebody cancelled the job",
        lines,
    )


def closing_text(failures):
    """The text for failed jobs; ``failures``: a list of (title of the job, log, sentence, lines)."""
    groups = {}
    for title, log, sentence, lines in failures:
        groups.setdefault(sentence, []).append((title, log, lines))
    blocks = []
    for sentence, jobs in groups.items():
        titles = [title for title, _, _ in jobs]
        more = len(titles) - MOST_JOBS
        named = titles[:MOST_JOBS] + ([f"and {more} more jobs"] if more > 0 else [])
        _, log, lines = jobs[0]
        shown = [f"last lines of {log}:", *(f"    {printable(line)}" for line in lines)]
        blocks.append(
            "\n".join(
                [
                    "; ".join(named),
                    *(shown if lines else [f"log: {log}"] if log else []),
                    f"error: {sentence}",
                ]
            )
        )
    what = "this" if len(blocks) == 1 else "these errors"
    blocks.append(
        f"Next: correct {what}, then give the same command again. Finished jobs are not repeated."
    )
    return "\n\n".join(blocks)


def title_of(job):
    """How a job of Snakemake is called: its message, or its rule with its wildcards."""
    try:
        message = job.message
    except Exception:
        # A message that cannot be formatted must not hide the error.
        message = None
    if message:
        return message
    values = ", ".join(
        f"{key} {value}" for key, value in getattr(job, "wildcards_dict", {}).items()
    )
    name = getattr(job, "name", None) or str(job)
    return f"{name} ({values})" if values else name


class FailureReport(logging.Handler):
    """Prints the errors of a workflow to stderr when the process ends.

    As a handler of Snakemake's logger it gets the errors that the rule files raise while they are read.
    ``jobs(failed)`` takes the jobs that failed.
    """

    def __init__(self):
        super().__init__(logging.ERROR)
        self.begun, self.text = time.time(), ""

    def begin(self, logger):
        """Listen to ``logger`` and print at the end of the process."""
        logger.addHandler(self)
        atexit.register(self.print)
        return self

    def emit(self, record):
        raised = RAISED.match(record.getMessage())
        if raised and not self.text:
            self.text = (
                f"error: {raised['sentence']}\n\n"
                "Next: correct this, then give the same command again. No job has been started."
            )

    def jobs(self, failed):
        """Remember failed jobs (single ones or groups of Snakemake)."""
        single = [job for each in failed for job in getattr(each, "jobs", None) or [each]]
        failures = []
        for job in sorted(single, key=title_of):
            log = next(iter(map(str, job.log)), "")
            failures.append((title_of(job), log, *error_of(log, self.begun)))
        if failures:
            self.text = closing_text(failures)

    def print(self):
        if self.text:
            sys.stdout.flush()
            print(f"\n{self.text}", file=sys.stderr, flush=True)
