"""Where published weights are to be had. No torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class WebWeights:
    """A file at ``address`` whose SHA-256 begins with the hexadecimal ``digits``."""

    address: str
    digits: str


@dataclass(frozen=True)
class HubWeights:
    """A ``file`` of a model ``repository`` ("owner/name") of the hub, which states its SHA-256."""

    repository: str
    file: str
