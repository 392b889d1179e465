"""All tiny studies of a test run share their fork servers.

Torch and Snakemake itself are imported once (`warm_snakemake.py`).
"""

import pytest


@pytest.fixture(scope="module", autouse=True)
def shared_servers(sharing):
    """For this folder's modules; see `sharing`."""
    with sharing():
        yield
