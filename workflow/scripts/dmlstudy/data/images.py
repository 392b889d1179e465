"""Open images of any mode and orientation as upright RGB images."""

import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dmlstudy.core.files import StudyError

# EXIF tag 274: values 5 to 8 mean that the image is rotated by 90°.
_ORIENTATION = 274
_QUARTER_TURNS = {5, 6, 7, 8}


# `_opened` checks the configured limit; Pillow's warning at half of that limit adds nothing.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _opened(path, max_pixels):
    """Open an image without decoding it; StudyError that names the file if it cannot be opened."""
    # Pillow applies this limit to nested images too (an image inside an icon).
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file, but the data set lists it") from None
    except UnidentifiedImageError:
        raise StudyError(f"{path}: not an image, or of an unknown format") from None
    except Exception as error:
        raise _error(path, max_pixels, error) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise StudyError(
            f"{path}: {width} × {height} pixels are more than dataset.max_pixels ({max_pixels})"
        )
    return image


def _error(path, max_pixels, error):
    """The StudyError to raise for an error of Pillow.

    On a broken file Pillow's decoders raise many types of exceptions (OSError, struct.error, IndexError,
    zlib.error, …). Callers catch all of them: any exception means that this one image is broken.
    """
    if isinstance(error, Image.DecompressionBombError):
        return StudyError(f"{path}: more than dataset.max_pixels ({max_pixels}): {error}")
    return StudyError(f"{path}: the image is broken: {error or type(error).__name__}")


def upright_size(path, *, max_pixels):
    """(width, height) of an image after its EXIF orientation is applied; pixels are not decoded.

    Raises StudyError, naming the file, for a broken header or more than ``max_pixels`` pixels.
    """
    with _opened(path, max_pixels) as image:
        width, height = image.size
        try:
            # For a PNG this decodes the pixels, because its EXIF data may come after them.
            turned = image.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        except Exception as error:
            raise _error(path, max_pixels, error) from error
    return (height, width) if turned else (width, height)


def open_rgb(path, *, max_pixels):
    """Decode an image: upright, RGB, 8 bits per channel. StudyError, naming the file, if it is broken."""
    with _opened(path, max_pixels) as image:
        try:
            image.load()
            # In place: a copy would take 10 % more time and twice the memory.
            ImageOps.exif_transpose(image, in_place=True)
            if image.mode.startswith("I"):
                # Pillow clips 16-bit grey values at 255; keep the upper byte, as an 8-bit file would have it.
                grey = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
                return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
            return image if image.mode == "RGB" else image.convert("RGB")
        except Exception as error:
            raise _error(path, max_pixels, error) from error
