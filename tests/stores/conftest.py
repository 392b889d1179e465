"""The stores that the tests of this folder run with."""

import uuid

import pytest
from lab_server import PACKAGE, REQUIRED, lab_server, programs

KINDS = ("faiss", "sqlite", "postgresql")


@pytest.fixture(scope="session")
def server():
    """A PostgreSQL server with pgvector."""
    if programs() is None:
        assert not REQUIRED, f"DML_REQUIRE_POSTGRESQL is set, but there is no {PACKAGE}"
        pytest.skip(f"{PACKAGE} is missing")
    with lab_server() as started:
        yield started


def new_place(kind, folder, request):
    """What --store takes, for a store that is new."""
    if kind == "postgresql":
        return request.getfixturevalue("server").address(f"t{uuid.uuid4().hex[:12]}")
    return f"{kind}:{folder / f'a {kind} store'}"


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    """What --store takes, for each kind of store."""
    return new_place(request.param, tmp_path, request)
