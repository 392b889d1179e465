"""Files of the model hub that publishes timm's weights, verified. ``HF_ENDPOINT`` is its address.

The hub's library finds the commit of a revision and the SHA-256 of a file. `downloads` fetches the
bytes, so a broken transfer continues where it stopped.
"""

import os
import re
from typing import NamedTuple

# No telemetry. The hub's library reads this when it is imported, and timm imports it.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from dmlstudy.core.files import StudyError
from dmlstudy.data.downloads import download

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# Seconds until the hub must have answered.
TIMEOUT = 20


class HubFile(NamedTuple):
    """A file at one commit: its address, the commit, the SHA-256 and the size that the hub states."""

    address: str
    commit: str
    sha256: str
    size: int | None


def find(repository, file, revision=None):
    """The `HubFile` of a repository ("owner/name"). ``revision``: a commit; None: the newest.

    Raises StudyError where the hub cannot be reached, has no such repository, commit or file, or does
    not state the file's SHA-256.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    address = hf_hub_url(repository, file, revision=revision)
    try:
        found = get_hf_file_metadata(address, timeout=TIMEOUT, token=False)
    except GatedRepoError:
        raise StudyError(
            f"{address}: the repository has terms that must be accepted first; give a local copy in "
            "the configuration"
        ) from None
    except RepositoryNotFoundError:
        raise StudyError(f"{address}: the hub has no repository {repository}") from None
    except RevisionNotFoundError:
        raise StudyError(f"{address}: the repository has no commit {revision}") from None
    except EntryNotFoundError:
        raise StudyError(f"{address}: the repository has no file {file}") from None
    except Exception as error:
        # The library's transport raises all kinds of errors of a network.
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise StudyError(
            f"{address}: cannot be reached: {reason}\nWithout a network, give a local file or "
            "folder in the configuration."
        ) from None
    if not COMMIT.fullmatch(found.commit_hash or ""):
        raise StudyError(f"{address}: the answer names no commit; is this a model hub?")
    if revision is not None and found.commit_hash != revision:
        raise StudyError(f"{address}: the hub answers with commit {found.commit_hash} instead")
    if not SHA256.fullmatch(found.etag or ""):
        raise StudyError(f"{address}: the hub states no SHA-256 of this file")
    pinned = hf_hub_url(repository, file, revision=found.commit_hash)
    return HubFile(pinned, found.commit_hash, found.etag, found.size)


def fetch(found, path, progress=None):
    """Download a `HubFile` to ``path``, which appears only verified. StudyError as `download`."""
    download(found.address, path, {"sha256": found.sha256}, size=found.size, progress=progress)
