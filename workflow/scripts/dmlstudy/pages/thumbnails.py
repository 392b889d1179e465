"""Small pictures of a data set from its pack: all in one sprite, and single ones, for pages."""

import io
import math

import numpy as np
from PIL import Image

from dmlstudy.core.files import StudyError, atomic_path
from dmlstudy.data.resizing import Resize

# WebP cannot be wider or higher than this many pixels.
WEBP_LIMIT = 16383
QUALITY = 50


def photograph(pack, row, width, height, size):
    """Image ``row`` of a pack with its own proportions, its longer side ``size`` pixels, as RGB.

    ``width``, ``height``: of the original, since a pack may hold it squashed. Never enlarged.
    """
    picture = Image.fromarray(np.ascontiguousarray(pack.image(row)))
    size = min(size, max(picture.size))
    if width >= height:
        shape = size, max(1, round(size * height / width))
    else:
        shape = max(1, round(size * width / height)), size
    return picture if picture.size == shape else picture.resize(shape, Image.Resampling.BOX)


def webp(picture, quality=75):
    """A picture as the bytes of a WebP file; the same bytes for the same pixels."""
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=quality, method=4)
    return stream.getvalue()


def sprite_columns(count):
    """Thumbnails per row of a sprite of ``count``: about a square."""
    return max(1, math.ceil(math.sqrt(count)))


def write_sprite(path, pack, widths, heights, side):
    """Write the middle square of every image of ``pack``, ``side`` pixels wide, into one WebP.

    Thumbnail i stands in column i mod c and row i div c, with c = `sprite_columns`. ``widths`` and
    ``heights`` are those of the originals. Raises StudyError where they are too many.
    """
    columns = sprite_columns(len(pack))
    rows = math.ceil(len(pack) / columns)
    if columns * side > WEBP_LIMIT:
        raise StudyError(
            f"{len(pack)} thumbnails of {side} pixels do not fit into one picture of at most "
            f"{WEBP_LIMIT} pixels a side"
        )
    sprite = Image.new("RGB", (columns * side, rows * side))
    for index in range(len(pack)):
        width, height = Resize("shorter", side).size_of(widths[index], heights[index])
        picture = Image.fromarray(np.ascontiguousarray(pack.image(index)))
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
        sprite.paste(picture, (index % columns * side, index // columns * side))
    with atomic_path(path) as part:
        part.write_bytes(webp(sprite, QUALITY))
