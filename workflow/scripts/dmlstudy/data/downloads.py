"""Resumable downloads that are verified before they are used."""

import glob
import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path

from dmlstudy.core.files import StudyError, file_digest, write_text

CHUNK = 1 << 20
# Failures in a row, with less than a megabyte of progress between them, before giving up.
ATTEMPTS = 5
# Seconds to wait for a connection, and between two chunks of a response.
TIMEOUT = (20, 60)
# The longest wait, in seconds, that a server may ask for (Retry-After).
MAX_WAIT = 300


class _Broken(Exception):
    """The response cannot be used; trying again may help."""


def check(path, checksums, size=None, *, name=None):
    """Raise StudyError unless a file has the expected checksums and size.

    ``checksums``: {algorithm: hexadecimal digest, or its first digits}; ``size``: bytes, or None;
    ``name``: what messages call the file, by default its path.
    """
    name = name or path
    found = Path(path).stat().st_size
    if size is not None and found != size:
        raise StudyError(f"{name} has {found} bytes, but {size} were expected")
    for algorithm, expected in checksums.items():
        found = file_digest(path, algorithm)
        if not found.startswith(expected):
            raise StudyError(
                f"{name}: {algorithm} is {found[: len(expected)]}, but {expected} was expected"
            )


def download(urls, path, checksums, *, size=None, progress=None, wait=2.0, timeout=TIMEOUT):
    """Download a file from the first of ``urls`` that works; ``path`` appears only after verification.

    ``urls``: one address, or several that are tried in order; ``checksums``: see `check`; ``size``:
    bytes, or None. An interrupted download leaves a .partial file for its address, and a file with the
    server's validator (ETag or time of the last change). The next call continues it with a range request
    if the file on the server is still the same. Network and server errors are retried up to
    ``ATTEMPTS`` times in a row, first after ``wait`` seconds, then twice as long each time, or as long
    as the server asks. ``progress(bytes_so_far, total or None)`` is called as bytes arrive.
    ``timeout``: seconds to (connect, wait for the next bytes). The usual environment variables set
    proxies. A file with a wrong checksum or size is deleted.
    Raises StudyError with one line per address that says what failed.
    """
    urls = [urls] if isinstance(urls, str) else list(urls)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        source = _Source(url, path, checksums, size, progress, timeout)
        try:
            source.get(wait)
            break
        except StudyError as error:
            failures.append(str(error))
            if url != urls[-1]:
                logging.warning("%s; trying the next address", error)
    else:
        again = "; ".join(failures) if len(failures) == 1 else "\n".join(["", *failures])
        raise StudyError(
            f"could not download {path}: {again}\nRun the same command again to continue the "
            "download, or give a local file in the configuration."
        )
    os.replace(source.partial, path)
    # Partial files of the other addresses are of no use any more.
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial*"):
        leftover.unlink()


class _Source:
    """One address and its partial file. Bytes from two addresses are never mixed."""

    def __init__(self, url, path, checksums, size, progress, timeout):
        self.url, self.checksums, self.size = url, checksums, size
        self.progress, self.timeout = progress, timeout
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        self.partial = path.with_name(f"{path.name}.{key}.partial")
        # Identifies the version of the file on the server: {validator, total}.
        self.metadata = path.with_name(f"{path.name}.{key}.partial.json")

    def get(self, wait):
        """Complete and verify the file ``partial``, or raise StudyError."""
        for attempt in (1, 2):
            continued = self._fetch_all(wait)
            try:
                check(self.partial, self.checksums, self.size)
                return
            except StudyError as error:
                reason = str(error)
                self._forget()
            if attempt == 2 or not continued:
                break
            # The file may have changed between two responses, and the server did not say so.
            logging.info("%s; downloading it again from the start", reason)
        reason = reason.removeprefix(f"{self.partial}: ")
        raise StudyError(f"{self.url}: {reason}; the downloaded file was deleted")

    def _forget(self):
        self.partial.unlink(missing_ok=True)
        self.metadata.unlink(missing_ok=True)

    def _begun(self):
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _fetch_all(self, wait):
        """Fetch until the file is complete. Returns whether it was put together from several responses."""
        import requests
        import urllib3

        failed, best = 0, self._begun()
        while True:
            try:
                return self._fetch()
            except (requests.RequestException, urllib3.exceptions.HTTPError, _Broken) as error:
                response = getattr(error, "response", None)
                status = response.status_code if response is not None else None
                refused = status is not None and 400 <= status < 500
                # requests raises a ValueError for an invalid address.
                final = isinstance(error, ValueError) or (refused and status not in (408, 425, 429))
                reason = error
            # Progress resets the count: a connection that breaks every few minutes still succeeds.
            failed += 1
            if self._begun() >= best + CHUNK:
                failed, best = 1, self._begun()
            if final or failed >= ATTEMPTS:
                raise StudyError(f"{self.url}: {reason}") from None
            pause = _retry_after(response)
            pause = wait * 2 ** (failed - 1) if pause is None else min(pause, MAX_WAIT)
            logging.info("%s: attempt failed (%s); next one in %.0f s", self.url, reason, pause)
            time.sleep(pause)

    def _fetch(self):
        """Make one request: continue ``partial`` if the server allows it, else start again.

        Returns whether the file was continued.
        """
        import requests

        begun, known = self._begun(), {}
        if begun and self.metadata.exists():
            known = json.loads(self.metadata.read_text(encoding="utf-8"))
        # Without a validator only a checksum can tell whether the two pieces belong together.
        if not known.get("validator") and not (known and self.checksums):
            begun = 0
        headers = {"Accept-Encoding": "identity"}
        if begun:
            headers["Range"] = f"bytes={begun}-"
            if known["validator"]:
                headers["If-Range"] = known["validator"]
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == 416:
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
                if total.isdecimal() and int(total) == begun:
                    return True
                self._forget()
                raise _Broken("the file on the server is now shorter")
            response.raise_for_status()
            validator = _validator(response)
            begun = begun if response.status_code == 206 else 0
            total = self._total(response, begun)
            if begun and (validator, total) != (known["validator"], known["total"] or total):
                self._forget()
                raise _Broken("the file on the server has changed")
            if self.size is not None and total != self.size:
                self._forget()
                raise StudyError(
                    f"{self.url}: the file has {total} bytes, but {self.size} were expected; "
                    "nothing was downloaded"
                )
            free = shutil.disk_usage(self.partial.parent).free
            if total is not None and total - begun > free:
                raise StudyError(
                    f"{self.url}: the file has {total} bytes, but only {free} are free in "
                    f"{self.partial.parent}"
                )
            if not begun:
                self._forget()
                write_text(self.metadata, json.dumps({"validator": validator, "total": total}))
            done = self._receive(response, begun, total)
        if total is not None and done != total:
            raise _Broken(f"the connection broke after {done} of {total} bytes")
        return begun > 0

    def _total(self, response, begun):
        """Size of the whole file in bytes according to the response, or None."""
        if response.status_code == 206:
            # bytes first-last/total
            extent, _, total = response.headers.get("Content-Range", "").rpartition("/")
            first = extent.removeprefix("bytes").strip().partition("-")[0]
            if first != str(begun) or not total.isdecimal():
                self._forget()
                raise _Broken(f"asked for the bytes from {begun} on, but the server sent others")
            return int(total)
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else self.size

    def _receive(self, response, done, total):
        with open(self.partial, "ab") as sink:
            # read1 returns what has arrived, so no byte is lost when the connection breaks.
            while chunk := response.raw.read1(CHUNK):
                try:
                    sink.write(chunk)
                except OSError as error:
                    raise StudyError(f"{self.partial}: cannot be written: {error}") from None
                done += len(chunk)
                if self.progress:
                    self.progress(done, total)
        return done


def _validator(response):
    """The value for If-Range: a strong ETag, else the time of the last change, else None."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(response):
    """Seconds that a server asks to wait, or None."""
    import urllib3

    value = response.headers.get("Retry-After") if response is not None else None
    try:
        return None if value is None else urllib3.Retry().parse_retry_after(value)
    except urllib3.exceptions.HTTPError:
        return None
