"""All tiny studies of a test run share their fork servers.

Torch and Snakemake itself are imported once (`warm_snakemake.py`).
"""

import pytest


@pytest.fixture(scope="module", autouse=True)
def shared_servers(servers):
    """For each module of this folder only; see `servers`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DML_FORK_SERVER", servers)
        yield
