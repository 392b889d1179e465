"""Sources of files and data sets: a list of web addresses to try in order, or one local path."""

import hashlib
import os
import re
import unicodedata
from pathlib import Path
from urllib.parse import unquote, urlparse, urlsplit, urlunsplit

SCHEMES = ("http://", "https://")
# ``$SCRATCH`` and ``${SCRATCH}``. A configuration means the same for everybody who reads it.
VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


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
    return Path(os.path.expanduser(path))


def expanded(path):
    """A path of the configuration with ``~`` and ``~user`` replaced by the home folder.

    Raises ValueError, with what is wrong in words, for a path that cannot be used: with an unknown home
    folder, an environment variable, a control character, a dash at the beginning (programs take it for an
    option), or a name that is too long for a file system.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path):
        raise ValueError("holds a control character")
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ValueError(
            f"no home folder is known for {path.partition('/')[0]}; write the path out"
        )
    if os.path.normpath(found).startswith("-"):
        raise ValueError(
            "begins with a dash, which programs take for an option; write the absolute path"
        )
    if any(len(os.fsencode(part)) > 255 for part in found.split("/")):
        raise ValueError("holds a name of more than 255 bytes, which no file system takes")
    variable = VARIABLE.search(found)
    if variable and not os.path.exists(found):
        raise ValueError(f"holds {variable[0]}, which is not replaced; write the path out")
    return found


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
        try:
            path = unquote(url.path) if source.startswith("file:") else source
            expanded(path)
        except ValueError as error:
            return f"{source!r} {error}"
    return None
