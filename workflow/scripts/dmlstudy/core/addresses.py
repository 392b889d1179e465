"""Where a file or data set comes from: addresses that are tried in order, or one local path."""

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlparse, urlsplit, urlunsplit

SCHEMES = ("http://", "https://")


def addresses(source):
    """The web addresses of ``source`` (a text, a list or None), in order; none for a local path."""
    entries = [source] if isinstance(source, str) else source or []
    return [entry for entry in entries if entry.lower().startswith(SCHEMES)]


def without_secrets(address):
    """An address as it may be recorded and shown: without user and password, its query as a digest.

    A query may hold a signature; addresses that differ in it still differ.
    """
    parts = urlsplit(address)
    query = parts.query and hashlib.sha256(parts.query.encode()).hexdigest()[:12]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def local_path(source):
    """The local path that ``source`` names, or None. Relative paths start at the working directory.

    ``file:`` may stand before a path; what an address writes as %20 is a space then.
    """
    if not isinstance(source, str) or addresses(source):
        return None
    path = source
    if source.startswith("file:"):
        path = unquote(urlparse(source).path)
    return Path(path).expanduser()


def mistake(source):
    """What is wrong with ``source``, in words, or None."""
    if isinstance(source, list):
        for entry in source:
            if not addresses(entry):
                return (
                    f"a list holds addresses (http, https) to try in order, and {entry!r} is none; "
                    "give a local file or folder alone, without a list"
                )
    elif source is not None and not addresses(source):
        parts = urlparse(source)
        if "://" in source and parts.scheme != "file":
            return f"{source!r} is no address (http, https), and no local path either"
        if parts.scheme == "file" and parts.netloc not in ("", "localhost"):
            return f"{source!r} names another machine; write file:/path or file:///path"
    return None
