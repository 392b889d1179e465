"""The kinds of stores that the tests of this folder run with."""

import uuid

KINDS = ("faiss", "sqlite", "postgresql")


def new_place(kind, folder, request):
    """What --store takes, for a store that is new."""
    if kind == "postgresql":
        return request.getfixturevalue("server").address(f"t{uuid.uuid4().hex[:12]}")
    return f"{kind}:{folder / f'a {kind} store'}"
