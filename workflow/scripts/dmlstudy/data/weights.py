"""Where published weights are to be had."""

from pathlib import PurePosixPath
from urllib.parse import urlparse


def published_weights(arch):
    """(address, first digits of the SHA-256) of torchvision's ImageNet weights, version 1.

    Both come from torchvision's weights API; the digits are part of the file's name, as
    ``torch.hub`` checks them.
    """
    import torchvision

    url = torchvision.models.get_model_weights(arch).IMAGENET1K_V1.url
    return url, PurePosixPath(urlparse(url).path).stem.rsplit("-", 1)[1]
