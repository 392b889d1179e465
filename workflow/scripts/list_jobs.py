"""Write the jobs of a study as JSON, from Snakemake's own plan; options as of snakemake, after --out FILE.

As a dry run it takes no lock, starts nothing and works beside a Snakemake that runs.
"""

import argparse
import sys

from snakemake.cli import main as snakemake
from snakemake.workflow import Workflow

from dmlstudy.plan.job_list import write_jobs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="JSON file to write")
    args, options = parser.parse_known_args()

    def listed(workflow, detailed=False):
        # As in a dry run: outputs of a job that was killed count as missing.
        workflow._prepare_dag(
            forceall=False, ignore_incomplete=False, lock_warn_only=False, nolock=True
        )
        workflow._build_dag()
        names = workflow.globals
        write_jobs(args.out, workflow.dag, names["STUDY"], names["FILES"], names["BACKBONES"])

    # Snakemake reads profiles and configurations for its own command --summary; only what that writes differs.
    Workflow.summary = listed
    sys.exit(snakemake(["--summary", *options]))


if __name__ == "__main__":
    main()
