"""Downloads that go on where they stopped and are verified before anybody uses them."""

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
# In a row, without a megabyte of progress between them.
ATTEMPTS = 5
# Seconds until the server must have answered, and between two pieces of an answer.
TIMEOUT = (20, 60)
# A server may ask for patience (Retry-After), but not for more seconds than this.
MAX_WAIT = 300


class _Broken(Exception):
    """An answer that cannot be used; trying again may help."""


def check(path, checksums, size=None):
    """Compare a file with ``checksums`` (algorithm → hexadecimal digest or its first digits).

    ``size``: bytes that it must have, or None. Raises StudyError that says what was expected.
    """
    found = Path(path).stat().st_size
    if size is not None and found != size:
        raise StudyError(f"{path}: has {found} bytes, but {size} were expected")
    for algorithm, expected in checksums.items():
        found = file_digest(path, algorithm)
        if not found.startswith(expected):
            raise StudyError(
                f"{path}: {algorithm} is {found[: len(expected)]}, but {expected} was expected"
            )


def download(urls, path, checksums, *, size=None, progress=None, wait=2.0, timeout=TIMEOUT):
    """Download the first of ``urls`` that gives the file to ``path``, which appears only verified.

    ``urls``: an address or several, tried in order; ``checksums``: see `check`; ``size``: bytes, or
    None. What a broken attempt left (a .partial file of that address, with what the server says
    identifies its content beside it) is continued by a range request if the file on the server is
    still the same. Network and server errors are tried ``ATTEMPTS`` times in a row, ``wait`` seconds
    apart, doubling, or as long as the server asks. ``progress(bytes_so_far, total or None)`` is called as
    bytes arrive. ``timeout``: seconds to (connect, wait for the next bytes). Proxies come from the
    usual environment variables. Raises StudyError with a line per address that says what failed;
    a file with a wrong checksum or size is removed.
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
            f"could not download {path}: {again}\nRun the same command again to go on where it "
            "stopped, or give a local file in the configuration."
        )
    os.replace(source.partial, path)
    # Of other addresses too: nobody will ask for their rest.
    for leftover in path.parent.glob(f"{glob.escape(path.name)}.*.partial*"):
        leftover.unlink()


class _Source:
    """One address and what has arrived from it. Bytes of two addresses are never mixed."""

    def __init__(self, url, path, checksums, size, progress, timeout):
        self.url, self.checksums, self.size = url, checksums, size
        self.progress, self.timeout = progress, timeout
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        self.partial = path.with_name(f"{path.name}.{key}.partial")
        # What identifies the server's content: {validator, total}.
        self.memory = path.with_name(f"{path.name}.{key}.partial.json")

    def get(self, wait):
        """Let ``partial`` be the complete, verified file, or raise StudyError."""
        continued = self._fetch_all(wait)
        try:
            check(self.partial, self.checksums, self.size)
            return
        except StudyError as error:
            reason = str(error)
            self._forget()
        if continued:
            # Halves of two files, of a server that does not say when its file changes.
            logging.info("%s; downloading it as a whole", reason)
            self._fetch_all(wait)
            try:
                check(self.partial, self.checksums, self.size)
                return
            except StudyError as error:
                reason = str(error)
                self._forget()
        reason = reason.removeprefix(f"{self.partial}: ")
        raise StudyError(f"{self.url}: {reason}; what was downloaded is removed")

    def _forget(self):
        self.partial.unlink(missing_ok=True)
        self.memory.unlink(missing_ok=True)

    def _begun(self):
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _fetch_all(self, wait):
        """Fetch until the file is complete. Returns whether it was put together from several answers."""
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
                # An address that makes no sense is a ValueError of requests'.
                final = isinstance(error, ValueError) or (refused and status not in (408, 425, 429))
                reason = error
            # A connection that breaks every few minutes gets there, one that gives nothing does not.
            failed += 1
            if self._begun() >= best + CHUNK:
                failed, best = 1, self._begun()
            if final or failed >= ATTEMPTS:
                raise StudyError(f"{self.url}: {reason}") from None
            pause = _retry_after(response)
            pause = wait * 2 ** (failed - 1) if pause is None else min(pause, MAX_WAIT)
            logging.info("%s: attempt failed (%s); again in %.0f s", self.url, reason, pause)
            time.sleep(pause)

    def _fetch(self):
        """One request. Appends to ``partial`` where the server can continue, else begins anew.

        Returns whether it continued.
        """
        import requests

        begun, known = self._begun(), {}
        if begun and self.memory.exists():
            known = json.loads(self.memory.read_text(encoding="utf-8"))
        # Without anything that identifies the content, only a checksum can tell whether parts fit.
        if not known.get("validator") and not (known and self.checksums):
            begun = 0
        headers = {"Accept-Encoding": "identity"}
        if begun:
            headers["Range"] = f"bytes={begun}-"
            if known["validator"]:
                headers["If-Range"] = known["validator"]
        with requests.get(self.url, headers=headers, stream=True, timeout=self.timeout) as answer:
            if answer.status_code == 416:
                total = answer.headers.get("Content-Range", "").rpartition("/")[2]
                if total.isdecimal() and int(total) == begun:
                    return True
                self._forget()
                raise _Broken("the file on the server has become shorter")
            answer.raise_for_status()
            validator = _validator(answer)
            begun = begun if answer.status_code == 206 else 0
            total = self._total(answer, begun)
            if begun and (validator, total) != (known["validator"], known["total"] or total):
                self._forget()
                raise _Broken("the file on the server has changed")
            if self.size is not None and total != self.size:
                self._forget()
                raise StudyError(
                    f"{self.url}: has {total} bytes, but {self.size} were expected; "
                    "nothing was downloaded"
                )
            free = shutil.disk_usage(self.partial.parent).free
            if total is not None and total - begun > free:
                raise StudyError(
                    f"{self.url}: has {total} bytes, but there are {free} free in {self.partial.parent}"
                )
            if not begun:
                self._forget()
                write_text(self.memory, json.dumps({"validator": validator, "total": total}))
            done = self._receive(answer, begun, total)
        if total is not None and done != total:
            raise _Broken(f"the connection broke after {done} of {total} bytes")
        return begun > 0

    def _total(self, answer, begun):
        """Bytes of the whole file as the answer announces them, or None."""
        if answer.status_code == 206:
            # bytes first-last/total
            extent, _, total = answer.headers.get("Content-Range", "").rpartition("/")
            first = extent.removeprefix("bytes").strip().partition("-")[0]
            if first != str(begun) or not total.isdecimal():
                self._forget()
                raise _Broken(f"asked for the bytes from {begun} on, the server sent others")
            return int(total)
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else self.size

    def _receive(self, answer, done, total):
        with open(self.partial, "ab") as sink:
            # read1 hands over what has arrived: when the connection breaks, no byte is lost.
            while chunk := answer.raw.read1(CHUNK):
                try:
                    sink.write(chunk)
                except OSError as error:
                    raise StudyError(f"{self.partial}: cannot be written: {error}") from None
                done += len(chunk)
                if self.progress:
                    self.progress(done, total)
        return done


def _validator(answer):
    """What an If-Range may hold: a strong ETag, else the time of the last change, else None."""
    etag = answer.headers.get("ETag", "")
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified")


def _retry_after(answer):
    """Seconds that a server asks to wait, or None."""
    import urllib3

    value = answer.headers.get("Retry-After") if answer is not None else None
    try:
        return None if value is None else urllib3.Retry().parse_retry_after(value)
    except urllib3.exceptions.HTTPError:
        return None
