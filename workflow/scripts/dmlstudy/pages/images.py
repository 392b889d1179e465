"""Images for pages, from a data set's pack:

all thumbnails in one sprite, and single larger images.
"""

import base64
import io
import math

import numpy as np
import pandas as pd
from PIL import Image

from dmlstudy.core.files import StudyError, atomic_path
from dmlstudy.data.copies import perceptual_hashes
from dmlstudy.data.resizing import Resize
from dmlstudy.pages.captions import PARTS
from dmlstudy.plan.memory_requests import SPRITE_SIDE, THUMBNAIL

# The longer side of an image on a page, in pixels.
SIDE = 128
SPRITE_QUALITY = 50
# Thumbnails of fewer pixels would show nothing.
LEAST_THUMBNAIL = 4
# Images of a data set that all have their thumbnail in a page; of a larger one, a page has those it shows.
ALL_SHOWN = 12_000


class PageImages:
    """The images of one data set, as a page shows them.

    ``pack``: an opened `Pack`; ``manifest``: its table of images; ``sprite``: the file that
    `write_sprite` wrote for the pack, as bytes, if the page has thumbnails; see `thumbnail`. ``split``:
    table of the parts of its images. ``near``: copies are also photographs whose perceptual hashes differ in at most so many
    bits; None: only those with the same bytes or pixels.
    """

    def __init__(self, pack, manifest, split, sprite=b"", near=None):
        self.pack, self.manifest, self.near = pack, manifest, near
        self.parts = split.set_index("image_id")["part"].reindex(manifest["image_id"]).to_numpy()
        training = manifest[self.parts == "train"]
        self.firsts = training.groupby("class_id")["image_id"].min()
        self._whole, self._all_shown = sprite, len(manifest) <= ALL_SHOWN
        self.columns = sprite_columns(min(len(manifest), ALL_SHOWN))
        # Place of each image that was asked for in the sprite of the page, if it has not all of them.
        self._places = {}
        self.known = {}

    def thumbnail(self, image_id):
        """Place of an image's thumbnail in `sprite`, counted row by row.

        Of a data set of more than `ALL_SHOWN` images, the sprite holds those that were asked for.
        """
        image_id = int(image_id)
        return image_id if self._all_shown else self._places.setdefault(image_id, len(self._places))

    @property
    def sprite(self):
        """The thumbnails of the page, as a ``data:`` address; ask for it last."""
        if self._all_shown or not self._places:
            return data_uri(self._whole)
        shown = list(self._places)
        side = min(THUMBNAIL, *self.pack.image(shown[0]).shape[:2])
        return data_uri(sprite(self.pack, shown, self.manifest, side, self.columns))

    def image(self, image_id):
        """One image: {"uri", "width", "height", "name", "part", "path"}.

        Its longer side has at most `SIDE` pixels. ``name``: of its class; ``part``: in words.
        """
        if image_id not in self.known:
            width, height = (self.manifest[key].iat[image_id] for key in ("width", "height"))
            image = resized_image(self.pack, image_id, width, height, SIDE)
            self.known[image_id] = {
                "uri": data_uri(webp(image)),
                "width": image.width,
                "height": image.height,
                "name": self.manifest["class_name"].iat[image_id],
                "part": PARTS[self.parts[image_id]],
                "path": self.manifest["path"].iat[image_id],
            }
        return self.known[image_id]

    def example(self, class_id):
        """The first training image of a class, to show what it looks like."""
        return self.image(int(self.firsts[class_id]))

    def copied(self, one, other):
        """How one image is a copy of another, in words; empty if it is none."""
        if "sha256" in self.manifest:
            digests = self.manifest["sha256"]
            if digests.iat[one] == digests.iat[other]:
                return "same file"
        first, second = (self.pack.image(number) for number in (one, other))
        if np.array_equal(first, second):
            return "same pixels"
        if self.near is None:
            return ""
        hashes, others = (
            perceptual_hashes(Image.fromarray(np.ascontiguousarray(pixels)))
            for pixels in (first, second)
        )
        if not hashes.any() or not others.any():
            return ""
        bits = int(np.unpackbits(hashes ^ others[0], axis=1).sum(axis=1).min())
        return f"near duplicate, {bits} bits" if bits <= self.near else ""


def data_uri(content):
    """The bytes of a WebP file as a ``data:`` address."""
    return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")


def resized_image(pack, row, width, height, size):
    """Image ``row`` of a pack in its original proportions, as an RGB image of PIL.

    ``width``, ``height``: size of the original image, because a pack may hold it squashed.
    ``size``: pixels of the longer side. The image is never enlarged.
    """
    image = Image.fromarray(np.ascontiguousarray(pack.image(row)))
    size = min(size, max(image.size))
    if width >= height:
        shape = size, max(1, round(size * height / width))
    else:
        shape = max(1, round(size * width / height)), size
    return image if image.size == shape else image.resize(shape, Image.Resampling.BOX)


def webp(image, quality=75, method=4):
    """A PIL image as the bytes of a WebP file. Equal pixels give equal bytes. ``method``: effort, 0 to 6."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=method)
    return stream.getvalue()


def sprite_columns(count):
    """Thumbnails per row in a sprite of ``count`` thumbnails, so that it is about square."""
    return max(1, math.ceil(math.sqrt(count)))


def write_sprite(path, pack, widths, heights, side):
    """Write one WebP with a thumbnail of each image of ``pack``.

    A thumbnail is the middle square of an image, ``side`` pixels wide, or fewer if the sprite would have more
    than `SPRITE_SIDE` pixels a side. A browser needs 4 bytes for each pixel, and WebP has half a MB for the
    modes of all blocks, which libwebp exceeded at 13,880 pixels a side (``encoding error 6``).

    Thumbnail i is in column i mod c and row i div c, with c = `sprite_columns`. ``widths``, ``heights``: sizes
    of the original images. Raises StudyError if there are too many images.
    """
    side = min(side, SPRITE_SIDE // sprite_columns(len(pack)))
    if side < LEAST_THUMBNAIL:
        raise StudyError(
            f"{len(pack)} thumbnails of {LEAST_THUMBNAIL} pixels do not fit into one image of {SPRITE_SIDE} "
            "pixels a side, which is what browsers and WebP hold well"
        )
    sizes = pd.DataFrame({"width": widths, "height": heights})
    with atomic_path(path) as temporary:
        temporary.write_bytes(sprite(pack, range(len(pack)), sizes, side))


def sprite(pack, rows, sizes, side, columns=None):
    """One WebP, as bytes, with a thumbnail of each of some images of a pack; see `write_sprite`.

    ``rows``: of these images; ``sizes``: table of all images, with the original ``width`` and ``height``;
    ``columns``: thumbnails per row, by default `sprite_columns`.
    """
    widths, heights = (sizes[key].to_numpy() for key in ("width", "height"))
    columns = columns or sprite_columns(len(rows))
    found = Image.new("RGB", (columns * side, math.ceil(len(rows) / columns) * side))
    for index, row in enumerate(rows):
        width, height = Resize("shorter", side).size_of(widths[row], heights[row])
        image = Image.fromarray(np.ascontiguousarray(pack.image(row)))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
        found.paste(image, (index % columns * side, index // columns * side))
    # With more effort, libwebp takes seven times as long for a large image, and saves a tenth of its bytes.
    return webp(found, SPRITE_QUALITY, method=4 if len(rows) <= ALL_SHOWN else 2)
