"""Show how long the jobs of each rule took, from Snakemake's own records."""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

from dmlstudy.core import console
from dmlstudy.core.files import StudyError
from dmlstudy.core.options import check_number

RECORDS = Path(".snakemake") / "metadata"


def seconds_by_rule(folder, since):
    """Durations of the jobs that ended after ``since`` (Unix time), as {rule: [seconds, …]}.

    ``folder`` has a JSON file for each output that Snakemake made.
    """
    jobs = {}
    # Long names of outputs are split into folders.
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_dir():
            continue
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StudyError(f"{path}: not a record of Snakemake: {error}") from None
        begun, ended = record.get("starttime"), record.get("endtime")
        if begun and ended and ended >= since:
            # Records of the outputs of one job have slightly different times.
            first, last = jobs.get((record["rule"], record["job_hash"]), (begun, ended))
            jobs[record["rule"], record["job_hash"]] = min(begun, first), max(ended, last)
    rules = defaultdict(list)
    for (rule, _), (begun, ended) in jobs.items():
        rules[rule].append(max(0.0, ended - begun))
    return rules


def lines(rules, elapsed):
    """The table as lines of text, slowest rule first."""
    total = sum(map(sum, rules.values()))
    if not total:
        yield "no job ran: all results were up to date"
        return
    yield (
        f"time per rule: {total:.0f} s in {sum(map(len, rules.values()))} jobs, "
        f"{total / max(elapsed, 1e-9):.1f} jobs at a time on average"
    )
    for rule, seconds in sorted(rules.items(), key=lambda item: -sum(item[1])):
        share = sum(seconds) / total
        yield f"  {rule:<18} {len(seconds):>4} jobs {sum(seconds):>7.0f} s {share:>5.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--since", type=float, default=0.0, help="start of the run, in seconds since 1970"
    )
    args = parser.parse_args()

    def work():
        check_number("--since", args.since, least=0)
        rules = seconds_by_rule(RECORDS, args.since)
        print("\n".join(lines(rules, time.time() - args.since)))

    console.run(work)


if __name__ == "__main__":
    main()
