"""The stores that the tests of this folder run with."""

import pytest
from lab_server import PACKAGE, REQUIRED, lab_server, programs
from store_kinds import KINDS, new_place


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server with pgvector."""
    if programs() is None:
        assert not REQUIRED, f"DML_REQUIRE_POSTGRESQL is set, but there is no {PACKAGE}"
        pytest.skip(f"{PACKAGE} is missing")
    with lab_server() as started:
        yield started


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    """What --store takes, for each kind of store."""
    return new_place(request.param, tmp_path, request)
