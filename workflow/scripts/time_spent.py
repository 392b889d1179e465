"""Where the time of a run went: how long the jobs of each rule took, from Snakemake's own records."""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

RECORDS = Path(".snakemake") / "metadata"


def seconds_by_rule(folder, since):
    """{rule: seconds of each of its jobs} of the jobs that ended after ``since`` (Unix time).

    ``folder`` holds a JSON file for each output that Snakemake made.
    """
    jobs = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        record = json.loads(path.read_text())
        begun, ended = record.get("starttime"), record.get("endtime")
        if begun and ended and ended >= since:
            # Outputs of one job differ by the moment in which they were written down.
            first, last = jobs.get((record["rule"], record["job_hash"]), (begun, ended))
            jobs[record["rule"], record["job_hash"]] = min(begun, first), max(ended, last)
    rules = defaultdict(list)
    for (rule, _), (begun, ended) in jobs.items():
        rules[rule].append(max(0.0, ended - begun))
    return rules


def lines(rules, elapsed):
    """The table as lines of text, the rule that took longest first."""
    total = sum(map(sum, rules.values()))
    if not total:
        yield "no job ran: everything was there already"
        return
    yield (
        f"where the time went: {total:.0f} s in {sum(map(len, rules.values()))} jobs, "
        f"{total / max(elapsed, 1e-9):.1f} of them at a time"
    )
    for rule, seconds in sorted(rules.items(), key=lambda item: -sum(item[1])):
        share = sum(seconds) / total
        yield f"  {rule:<18} {len(seconds):>4} jobs {sum(seconds):>7.0f} s {share:>5.0%}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--since", type=float, default=0.0, help="when the run began, in seconds since 1970"
    )
    args = parser.parse_args()
    rules = seconds_by_rule(RECORDS, args.since)
    print("\n".join(lines(rules, time.time() - args.since)))


if __name__ == "__main__":
    main()
