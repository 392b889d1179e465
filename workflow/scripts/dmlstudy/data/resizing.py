"""How images of a pack are resized, and the name of such a pack. Planning uses it without Pillow."""

from typing import NamedTuple

MODES = ("shorter", "squash")
INTERPOLATIONS = ("bilinear", "bicubic")


class Resize(NamedTuple):
    """``shorter``: the shorter side becomes ``size`` pixels; ``squash``: both sides do.

    ``interpolation``: "bilinear" or "bicubic", antialiased as Pillow does it.
    """

    mode: str
    size: int
    interpolation: str = "bilinear"

    @property
    def name(self):
        """``shorter246``, or ``shorter246_bicubic``: bilinear is not named."""
        end = "" if self.interpolation == "bilinear" else f"_{self.interpolation}"
        return f"{self.mode}{self.size}{end}"

    def size_of(self, width, height):
        """(width, height) of a resized image, rounded as torchvision does."""
        if self.mode == "squash":
            return self.size, self.size
        if width <= height:
            return self.size, int(self.size * height / width)
        return int(self.size * width / height), self.size

    def apply(self, image):
        """The resized PIL image; the image itself if it has that size."""
        from PIL import Image

        size = self.size_of(*image.size)
        if image.size == size:
            return image
        return image.resize(size, Image.Resampling[self.interpolation.upper()])


def parse_resize(name):
    """The `Resize` of a name such as ``shorter246_bicubic``; ValueError for a name that is none."""
    begin, _, interpolation = name.partition("_")
    mode = begin.rstrip("0123456789")
    digits = begin.removeprefix(mode)
    interpolation = interpolation or "bilinear"
    if mode not in MODES or not digits or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"unknown resize {name!r}; known: {', '.join(MODES)}, the size, and perhaps _bicubic"
        )
    return Resize(mode, int(digits), interpolation)
