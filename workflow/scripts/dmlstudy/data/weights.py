"""Where published weights are. Imports no torch."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlparse


@dataclass(frozen=True)
class WebWeights:
    """A file at ``address`` whose SHA-256 begins with the hexadecimal ``digits``."""

    address: str
    digits: str


def torchvision_weights(entry):
    """`WebWeights` of an entry of torchvision's table; the digits are part of the file's name."""
    return WebWeights(entry.url, PurePosixPath(urlparse(entry.url).path).stem.rsplit("-", 1)[1])


@dataclass(frozen=True)
class HubWeights:
    """A ``file`` of a model ``repository`` ("owner/name") of the hub, which states its SHA-256."""

    repository: str
    file: str
