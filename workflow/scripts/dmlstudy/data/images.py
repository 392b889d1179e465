"""Opening photographs: any mode and orientation in, upright RGB out."""

import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dmlstudy.core.files import StudyError

# EXIF tag 274: values 5 to 8 turn the picture by a quarter.
_ORIENTATION = 274
_QUARTER_TURNS = {5, 6, 7, 8}


# `_readable` compares with the configuration's limit; Pillow's warning of half of it says nothing more.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def _readable(path, max_pixels):
    """Open (not decode) a picture; StudyError that names it where that cannot be done."""
    # Pillow looks inside files too (a picture within an icon), with the same limit.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        picture = Image.open(path)
    except FileNotFoundError:
        raise StudyError(f"{path}: listed, but not there") from None
    except UnidentifiedImageError:
        raise StudyError(f"{path}: not a picture that can be read") from None
    except Exception as error:
        raise _broken(path, max_pixels, error) from error
    width, height = picture.size
    if width * height > max_pixels:
        picture.close()
        raise StudyError(
            f"{path}: {width} × {height} pixels are more than dataset.max_pixels ({max_pixels})"
        )
    return picture


def _broken(path, max_pixels, error):
    """What to raise for ``error``.

    Pillow's decoders raise whatever they stumble over in a broken file (OSError, struct.error,
    IndexError, zlib.error, …), so callers catch everything: any of it means that one picture is bad.
    """
    if isinstance(error, Image.DecompressionBombError):
        return StudyError(f"{path}: more than dataset.max_pixels ({max_pixels}): {error}")
    return StudyError(f"{path}: the picture is broken: {error or type(error).__name__}")


def upright_size(path, *, max_pixels):
    """(width, height) of the picture as a person sees it, without decoding its pixels.

    Raises StudyError, with the path, where the header is broken or has more than ``max_pixels``.
    """
    with _readable(path, max_pixels) as picture:
        width, height = picture.size
        try:
            # This decodes a PNG, whose EXIF may stand behind its pixels.
            turned = picture.getexif().get(_ORIENTATION) in _QUARTER_TURNS
        except Exception as error:
            raise _broken(path, max_pixels, error) from error
    return (height, width) if turned else (width, height)


def open_rgb(path, *, max_pixels):
    """Decode a picture completely: upright, 8 bits, RGB. StudyError (with the path) if it is broken."""
    with _readable(path, max_pixels) as picture:
        try:
            picture.load()
            # In place: a copy of every picture costs a tenth of the time and half of the memory.
            ImageOps.exif_transpose(picture, in_place=True)
            if picture.mode.startswith("I"):
                # Pillow clips 16-bit greys at 255; the upper byte is what an 8-bit file would hold.
                grey = np.clip(np.asarray(picture, dtype=np.int64), 0, 65535)
                return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
            return picture if picture.mode == "RGB" else picture.convert("RGB")
        except Exception as error:
            raise _broken(path, max_pixels, error) from error
