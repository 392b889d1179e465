"""Opening photographs: any mode and orientation in, upright RGB out."""

import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dmlstudy.files import StudyError

# EXIF tag 274: values 5 to 8 turn the picture by a quarter.
_ORIENTATION = 274
_QUARTER_TURNS = {5, 6, 7, 8}


def _readable(path, max_pixels):
    """Open (not decode) a picture; StudyError that names it where that cannot be done."""
    try:
        with warnings.catch_warnings():
            # Our own limit, which the configuration sets, takes the place of Pillow's.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(path)
    except Image.DecompressionBombError as error:
        raise StudyError(f"{path}: too large: {error}") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise StudyError(f"{path}: not a picture that can be read: {error}") from None
    width, height = picture.size
    if width * height > max_pixels:
        picture.close()
        raise StudyError(
            f"{path}: {width} × {height} pixels are more than dataset.max_pixels ({max_pixels})"
        )
    return picture


def upright_size(path, *, max_pixels):
    """(width, height) of the picture as a person sees it, without decoding its pixels."""
    with _readable(path, max_pixels) as picture:
        width, height = picture.size
        try:
            # This decodes a PNG, whose EXIF may stand behind its pixels.
            turned = picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        except (OSError, ValueError, SyntaxError) as error:
            raise StudyError(f"{path}: the picture is broken: {error}") from None
    return (height, width) if turned else (width, height)


def open_rgb(path, *, max_pixels):
    """Decode a picture completely: upright, 8 bits, RGB. StudyError (with the path) if it is broken."""
    with _readable(path, max_pixels) as picture:
        try:
            picture.load()
            picture = ImageOps.exif_transpose(picture)
        except (OSError, ValueError, SyntaxError) as error:
            raise StudyError(f"{path}: the picture is broken: {error}") from None
        if picture.mode.startswith("I"):
            # Pillow clips 16-bit greys at 255; the upper byte is what an 8-bit file would hold.
            grey = np.clip(np.asarray(picture, dtype=np.int64), 0, 65535)
            return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
        return picture.convert("RGB")
