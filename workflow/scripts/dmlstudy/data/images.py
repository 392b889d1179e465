"""Open images of any mode and orientation as upright RGB images.

There is one way from a file to pixels and size: what Pillow decodes, turned by its `exif_transpose`.
Transparent parts are put on white, so that colours which nobody sees are not learnt. Grey images of
more than 8 bits are scaled as `deep_grey` says.
"""

import contextlib
import errno
import os
import stat
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dmlstudy.core.files import StudyError
from dmlstudy.data.deep_grey import to_8_bit

# EXIF tag 274: values 5 to 8 mean that the image is rotated by 90°.
_ORIENTATION = 274
_QUARTER_TURNS = {5, 6, 7, 8}
# TIFF tag 258: bits per sample.
_TIFF_BITS = 258
# Formats whose header gives size and orientation exactly as decoding does. Other readers of Pillow
# turn the size themselves (TIFF), or find the EXIF data only while they decode (PNG).
_SIZE_IN_HEADER = {"JPEG", "MPO"}
_BACKGROUND = (255, 255, 255, 255)
INVISIBLE = "a wholly transparent image: only the white background is seen"

# Of 16 bits per channel Pillow keeps the upper 8. Values of 14 bits or less stay below this.
DARK = 64
DEEP_AND_DARK = (
    "a colour image of 16 bits per channel that uses only the lower ones, so it is dark; save it with 8 "
    "bits per channel"
)


# `_opened` checks the configured limit; Pillow's warning at half of that limit adds nothing.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


@contextlib.contextmanager
def _opened(path, max_pixels):
    """Open an image without decoding it; StudyError that names the file if it cannot be opened."""
    # Pillow applies this limit to nested images too (an image inside an icon).
    Image.MAX_IMAGE_PIXELS = max_pixels
    with contextlib.ExitStack() as stack:
        try:
            # A named pipe would wait for ever.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise StudyError("not a file, so not an image")
            # As a stream: of a path, Pillow 13 maps some TIFFs into memory and swaps rows and columns.
            stream = stack.enter_context(open(path, "rb"))
            image = stack.enter_context(Image.open(stream))
        except FileNotFoundError:
            raise StudyError(f"{path}: no such file, but the data set lists it") from None
        except UnidentifiedImageError:
            raise StudyError(f"{path}: {_unidentified(path)}") from None
        except Exception as error:
            raise _error(path, max_pixels, error) from error
        width, height = image.size
        if width * height > max_pixels:
            raise StudyError(
                f"{path}: {width} × {height} pixels are more than dataset.max_pixels ({max_pixels})"
            )
        yield image


def _unidentified(path):
    """Says what a file is that Pillow cannot identify."""
    with open(path, "rb") as stream:
        head = stream.read(12)
    if not head:
        return "not an image: the file is empty"
    if head[4:8] == b"ftyp":
        return "not an image that can be read, perhaps HEIC or a film; convert it to JPEG"
    return "not an image, or of an unknown format"


def _error(path, max_pixels, error):
    """The StudyError to raise for an error of Pillow.

    On a broken file Pillow's decoders raise many types of exceptions (OSError, struct.error, IndexError,
    zlib.error, …). Callers catch all of them: any exception means that this one image is broken.
    """
    if isinstance(error, StudyError):
        return StudyError(f"{path}: {error}")
    if isinstance(error, Image.DecompressionBombError):
        return StudyError(f"{path}: more than dataset.max_pixels ({max_pixels}): {error}")
    # "Invalid argument" comes from seeking to an impossible place in a broken file.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return StudyError(f"{path}: cannot be read: {error.strerror}")
    return StudyError(f"{path}: the image is broken: {error or type(error).__name__}")


def upright_size(path, *, max_pixels):
    """(width, height) of an image after its EXIF orientation is applied, equal to `open_rgb`'s.

    Of a JPEG only the header is read; other images are decoded. Raises StudyError, naming the file,
    for a broken image or more than ``max_pixels`` pixels.
    """
    return size_with_note(path, max_pixels=max_pixels)[0]


def size_with_note(path, *, max_pixels):
    """`upright_size`, with the note of `open_with_note`: (size, note)."""
    with _opened(path, max_pixels) as image:
        if image.format in _SIZE_IN_HEADER:
            width, height = image.size
            try:
                turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
            except Exception as error:
                raise _error(path, max_pixels, error) from error
            # No JPEG gives a note: it has 8 bits and no transparency.
            return ((height, width) if turned else (width, height)), ""
    image, note = open_with_note(path, max_pixels=max_pixels)
    return image.size, note


def open_rgb(path, *, max_pixels):
    """Decode an image: upright, RGB, 8 bits per channel. StudyError, naming the file, if it is broken."""
    return open_with_note(path, max_pixels=max_pixels)[0]


def open_with_note(path, *, max_pixels):
    """`open_rgb`, with a note: (image, note).

    The note is a sentence, without the file's name, if the image's range of values is a guess or if
    nothing is seen in it; else "".
    """
    with _opened(path, max_pixels) as image:
        try:
            declared_bits, deep_colour = _declared_bits(image), _has_deep_colour(image)
            image.load()
            # In place: a copy would take 10 % more time and twice the memory.
            ImageOps.exif_transpose(image, in_place=True)
            decoded, note = _rgb(image, declared_bits)
            if deep_colour and not note and _brightest(decoded) < DARK:
                note = DEEP_AND_DARK
            return decoded, note
        except Exception as error:
            raise _error(path, max_pixels, error) from error


def _declared_bits(image):
    """How many bits of a grey value the file says are used, or None. Asked before decoding."""
    if image.format == "PPM":
        # Pillow scales Netpbm files by their own maximum to 16 bits.
        return 16
    if image.format == "TIFF":
        bits = image.tag_v2.get(_TIFF_BITS, ())
        return bits[0] if len(bits) == 1 and 8 <= bits[0] < 16 else None
    return None


def _has_deep_colour(image):
    """Whether a colour image has 16 bits per channel in its file. Asked before decoding."""
    return image.mode in ("RGB", "RGBA", "RGBX") and any(";16" in str(tile) for tile in image.tile)


def _brightest(image):
    return max(highest for _, highest in image.getextrema())


def _rgb(image, declared_bits):
    """(RGB image, note) of a decoded image."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image, ""
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        grey, note = to_8_bit(values, declared_bits=declared_bits)
        channels = [Image.fromarray(grey)] * 3
        transparent = image.info.get("transparency")
        if transparent is None:
            return Image.merge("RGB", channels), note
        alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
        seen, invisible = _on_white(Image.merge("RGBA", [*channels, alpha]))
        return seen, invisible or note
    if image.has_transparency_data:
        return _on_white(_rgba(image))
    return image.convert("RGB"), ""


def _rgba(image):
    """An image with transparency as RGBA."""
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        # The colour of a PNG with 16 bits per channel, of which Pillow keeps the upper 8.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _on_white(image):
    """(RGB image, note) of an RGBA image on a white background."""
    lowest, highest = image.getchannel("A").getextrema()
    if lowest < 255:
        image = Image.alpha_composite(Image.new("RGBA", image.size, _BACKGROUND), image)
    return image.convert("RGB"), "" if highest else INVISIBLE
