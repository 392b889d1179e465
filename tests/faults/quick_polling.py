"""Snakemake as it is, but jobs of a cluster are asked after each second: `quick_polling.py ARGUMENTS`.

Between two questions the executor waits for half a minute and more, which a test cannot.
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
