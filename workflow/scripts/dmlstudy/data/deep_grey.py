"""Grey images of more than 8 bits as 8-bit images. NumPy only.

Files say how many bits a value takes, but often not how many of them are used: a camera of 12 bits
writes files of 16 bits. The rule: an image is taken to have the smallest of `DEPTHS` that holds its
highest value, and its upper 8 bits are kept. So black stays black, and an image that fills its depth
fills the 8 bits too. Where the depth is such a guess, a note says so.
"""

import numpy as np

from dmlstudy.core.files import StudyError

# Bits per value that sensors and programs use.
DEPTHS = (8, 10, 12, 14, 16, 24, 32)


def to_8_bit(values, *, declared_bits=None):
    """Grey values of any range as (uint8 array of the same shape, note).

    ``values``: an array of integers or floats. ``declared_bits``: how many bits (at least 8) the file
    says are used, if it says so. The note is a sentence about a guessed range, or "" if nothing was
    guessed. Floats up to 1 are multiplied by 255; other floats are treated as whole numbers. Raises
    StudyError (a sentence without the file's name) for negative values, which have no known range, and for
    values that are not finite.
    """
    if not np.isfinite(values).all():
        raise StudyError("has grey values that are not finite numbers; save it with 8 bits")
    lowest, highest = values.min(), values.max()
    if lowest < 0:
        raise StudyError(
            f"has negative grey values (down to {lowest:g}), so it is not known which value is black; "
            "save it with 8 bits"
        )
    if highest >= 2 ** DEPTHS[-1]:
        raise StudyError(
            f"has grey values up to {highest:g}, more than 32 bits; save it with 8 bits"
        )
    floating = values.dtype.kind == "f"
    if floating and highest <= 1:
        note = "a floating-point grey image with values up to 1: 1 is taken for white"
        return np.round(values * 255).astype(np.uint8), note
    if not floating and declared_bits is not None and highest < 2**declared_bits:
        grey, note = _upper_byte(values, declared_bits), ""
        if highest and not grey.any():
            note = (
                f"a grey image of {declared_bits} bits without a value above {highest}: it is black"
            )
        return grey, note
    # Without a declared depth, a file that uses the upper bits of its 16 is no guess.
    depth = next(bits for bits in DEPTHS if highest < 2**bits)
    note = ""
    if depth < values.dtype.itemsize * 8:
        kind = "floating-point grey image" if floating else "grey image of more than 8 bits"
        note = (
            f"a {kind} without a value above {2**depth - 1}: it is taken for {depth} bits, so that "
            f"{2**depth - 1} is white"
        )
    return _upper_byte(values, depth), note


def _upper_byte(values, bits):
    whole = values.astype(np.int64) if values.dtype.kind == "f" else values
    return (whole >> (bits - 8)).astype(np.uint8)
