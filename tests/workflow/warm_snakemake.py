"""``warm_snakemake.py ARGUMENTS…`` is ``snakemake ARGUMENTS…``, as a fork of a process that has imported it.

Importing Snakemake takes as long as planning a tiny study, and the tests start it a hundred times.
"""

import sys
from pathlib import Path

if "snakemake.cli" in sys.modules:
    # In the fork.
    from snakemake.cli import main

    sys.argv[0] = "snakemake"
    sys.exit(main())

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow" / "scripts"))
import start

PACKAGES = (
    *("snakemake.cli", "pandas", "pydantic", "snakemake_executor_plugin_slurm"),
    # What Snakemake imports once it runs.
    *("snakemake.profiles", "snakemake.report.html_reporter", "snakemake.storage"),
    *("smart_open", "requests", "PIL.Image"),
)
start.GROUPS = {"snakemake": ((Path(__file__).name,), PACKAGES)}
start.main(str(Path(__file__).resolve()), *sys.argv[1:])
