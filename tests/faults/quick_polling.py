"""Snakemake with a status check of cluster jobs every second: `quick_polling.py ARGUMENTS`.

The executor waits half a minute and more between two checks, which is too long for a test.
"""

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def one_second(executor):
    await asyncio.sleep(1)


if __name__ == "__main__":
    RemoteExecutor.sleep = one_second
    sys.exit(main())
