"""A tiny run, and its service in a thread of this process: torch is imported once."""

import pytest
from tiny_service import InThread, copy_of, make_run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The folder of a tiny run. Tests that change anything take a copy."""
    return make_run(tmp_path_factory.mktemp("service") / "results")


@pytest.fixture
def run(made, tmp_path):
    return copy_of(made, tmp_path / "results")


@pytest.fixture
def serve(run):
    """serve(limits): the service of the test's own run; more than one can be started."""
    started = []

    def serve(**options):
        started.append(InThread(run, **options))
        return started[-1]

    yield serve
    for one in started:
        one.stop()
