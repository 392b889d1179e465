"""Downloads that go on where they stopped and are verified before anybody uses them."""

import logging
import os
import time
from pathlib import Path

from dmlstudy.files import StudyError, file_digest

CHUNK = 1 << 20
ATTEMPTS = 5
# Seconds until the server must have answered, and between two pieces of an answer.
TIMEOUT = (20, 60)


def check(path, checksums):
    """Compare a file with ``checksums`` (algorithm → hexadecimal digest or its first digits)."""
    for algorithm, expected in checksums.items():
        found = file_digest(path, algorithm)
        if not found.startswith(expected):
            raise StudyError(
                f"{path}: {algorithm} is {found[: len(expected)]}, but {expected} was expected"
            )


def download(url, path, checksums, *, progress=None, wait=2.0):
    """Download ``url`` to ``path``, which appears only when complete and verified.

    What a broken attempt left (``path``.partial, with the server's ETag beside it) is continued by a
    range request if the file on the server is still the same. Network errors and server errors are
    tried ``ATTEMPTS`` times, ``wait`` seconds apart, doubling. ``progress(bytes_so_far, total)`` is
    called now and then. Proxies come from the usual environment variables. StudyError says what
    failed; a file with a wrong checksum is removed.
    """
    import requests
    import urllib3

    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch(url, partial, progress)
            break
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            response = getattr(error, "response", None)
            status = response.status_code if response is not None else None
            final = status is not None and 400 <= status < 500 and status not in (408, 425, 429)
            if final or attempt == ATTEMPTS:
                raise StudyError(
                    f"{url}: could not be downloaded ({error}). Run the same command again to go on, "
                    "or give a local file in the configuration."
                ) from None
            logging.info("attempt %d failed (%s); trying again", attempt, error)
            time.sleep(wait * 2 ** (attempt - 1))
    try:
        check(partial, checksums)
    except StudyError as error:
        partial.unlink()
        raise StudyError(f"{url}: {error}; the download was removed") from None
    finally:
        _etag_file(partial).unlink(missing_ok=True)
    os.replace(partial, path)


def _etag_file(partial):
    return partial.with_name(f"{partial.name}.etag")


def _fetch(url, partial, progress):
    """One attempt. Appends to ``partial`` where the server can continue, else begins anew."""
    import requests

    etag_file = _etag_file(partial)
    headers = {"Accept-Encoding": "identity"}
    begun = partial.stat().st_size if partial.exists() else 0
    if begun and etag_file.exists():
        headers |= {"Range": f"bytes={begun}-", "If-Range": etag_file.read_text().strip()}
    else:
        begun = 0
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:
            # Nothing is missing, or the file became shorter: the checksum will tell.
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if total.isdecimal() and int(total) == begun:
                return
            partial.unlink()
            raise requests.ConnectionError("the file on the server has changed")
        answer.raise_for_status()
        if answer.status_code != 206:
            begun = 0
        etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        if etag and not etag.startswith("W/"):
            etag_file.write_text(etag)
        else:
            etag_file.unlink(missing_ok=True)
        length = answer.headers.get("Content-Length")
        total = begun + int(length) if length else None
        done = begun
        with open(partial, "ab" if begun else "wb") as sink:
            # read1 hands over what has arrived: when the connection breaks, no byte is lost.
            while chunk := answer.raw.read1(CHUNK):
                sink.write(chunk)
                done += len(chunk)
                if progress:
                    progress(done, total)
    if total is not None and done != total:
        raise requests.ConnectionError(f"the connection broke after {done} of {total} bytes")
