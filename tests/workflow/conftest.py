"""All tiny studies of a test run share their fork servers (docs/performance.md).

Torch and Snakemake itself are imported once (`warm_snakemake.py`).
"""

import os

import pytest


@pytest.fixture(scope="module", autouse=True)
def shared_servers(testrun_uid):
    """Only here: elsewhere, tests kill the processes that they have started, servers included."""
    with pytest.MonkeyPatch.context() as patch:
        # The servers end with the process that distributes the tests.
        owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
        patch.setenv("DML_FORK_SERVER", f"dml-tests-{testrun_uid}:{owner}")
        yield
