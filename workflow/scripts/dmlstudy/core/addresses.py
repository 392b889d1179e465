"""Sources of files and data sets: a list of web addresses to try in order, or one local path."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlparse, urlsplit, urlunsplit

SCHEMES = ("http://", "https://")


def addresses(source):
    """The web addresses in ``source`` (str, list or None), in order; empty for a local path."""
    entries = [source] if isinstance(source, str) else source or []
    return [entry for entry in entries if entry.lower().startswith(SCHEMES)]


def without_secrets(address):
    """An address that may be stored and shown: no user or password, the query replaced by a digest.

    A query may contain a signature. Addresses with different queries stay different.
    """
    url = urlsplit(address)
    query = url.query and hashlib.sha256(url.query.encode()).hexdigest()[:12]
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, query, ""))


def local_path(source):
    """``source`` as a local path, or None. Relative paths are relative to the working directory.

    A path may start with ``file:``; percent-encoding (%20 for a space) is decoded then.
    """
    if not isinstance(source, str) or addresses(source):
        return None
    path = source
    if source.startswith("file:"):
        path = unquote(urlparse(source).path)
    return Path(path).expanduser()


def mistake(source):
    """A sentence that says what is wrong with ``source``, or None."""
    for entry in source if isinstance(source, list) else [source]:
        try:
            urlparse(entry or "")
        except ValueError as error:
            return f"{entry!r} is not an address: {error}"
    if isinstance(source, list):
        for entry in source:
            if not addresses(entry):
                return (
                    f"{entry!r} is not an address (http, https); a list may only contain addresses, "
                    "which are tried in order. Give a local file or folder alone, without a list"
                )
    elif source is not None and not addresses(source):
        url = urlparse(source)
        if "://" in source and url.scheme != "file":
            return f"{source!r} is neither an address (http, https) nor a local path"
        if url.scheme == "file" and url.netloc not in ("", "localhost"):
            return f"{source!r} refers to another machine; write file:/path or file:///path"
    return None
