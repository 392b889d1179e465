"""Opening photographs: any mode and orientation in, upright RGB out."""

import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dmlstudy.core.files import StudyError

# EXIF tag 274: values 5 to 8 turn the image by a quarter.
_ORIENTATION = 274
_QUARTER_TURNS = {5, 6, 7, 8}


# `_readable` compares with the configuration's limit; Pillow's warning of half of it says nothing more.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _readable(path, max_pixels):
    """Open (not decode) an image; StudyError that names it where that cannot be done."""
    # Pillow looks inside files too (an image within an icon), with the same limit.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: listed, but not there") from None
    except UnidentifiedImageError:
        raise StudyError(f"{path}: not an image that can be read") from None
    except Exception as error:
        raise _broken(path, max_pixels, error) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise StudyError(
            f"{path}: {width} × {height} pixels are more than dataset.max_pixels ({max_pixels})"
        )
    return image


def _broken(path, max_pixels, error):
    """What to raise for ``error``.

    Pillow's decoders raise whatever they stumble over in a broken file (OSError, struct.error,
    IndexError, zlib.error, …), so callers catch everything: any of it means that one image is bad.
    """
    if isinstance(error, Image.DecompressionBombError):
        return StudyError(f"{path}: more than dataset.max_pixels ({max_pixels}): {error}")
    return StudyError(f"{path}: the image is broken: {error or type(error).__name__}")


def upright_size(path, *, max_pixels):
    """(width, height) of the image as a person sees it, without decoding its pixels.

    Raises StudyError, with the path, where the header is broken or has more than ``max_pixels``.
    """
    with _readable(path, max_pixels) as image:
        width, height = image.size
        try:
            # This decodes a PNG, whose EXIF may stand behind its pixels.
            turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        except Exception as error:
            raise _broken(path, max_pixels, error) from error
    return (height, width) if turned else (width, height)


def open_rgb(path, *, max_pixels):
    """Decode an image completely: upright, 8 bits, RGB. StudyError (with the path) if it is broken."""
    with _readable(path, max_pixels) as image:
        try:
            image.load()
            # In place: a copy of every image costs a tenth of the time and half of the memory.
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):
                # Pillow clips 16-bit greys at 255; the upper byte is what an 8-bit file would hold.
                grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
                return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
            return image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:
            raise _broken(path, max_pixels, error) from error
