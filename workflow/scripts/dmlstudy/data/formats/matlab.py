"""Read variables from MATLAB's .mat files by SciPy, which runs no code of theirs."""

import math
from pathlib import Path

import numpy as np

from dmlstudy.core.files import StudyError

# Label files of data sets are small. Larger ones are refused before they are read.
MOST_BYTES, MOST_ELEMENTS = 64 * 2**20, 20_000_000


def read(path, *variables, name):
    """The values of ``variables`` in a .mat file (MATLAB 4 to 7.2), one-element axes removed.

    Structures become dictionaries; arrays of them, lists. ``name``: the data set, for the message.
    Raises StudyError for a file that is missing, damaged, too large or of MATLAB 7.3 (HDF5), and for a
    variable that it does not have.
    """
    from scipy.io import loadmat, whosmat

    path = Path(path)
    if not path.is_file():
        raise StudyError(f"{path}: no such file; the folder does not have the layout of {name}")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise StudyError(f"{path}: has {size} bytes; a label file has at most {MOST_BYTES}")
    try:
        shapes = {variable: shape for variable, shape, _ in whosmat(path, appendmat=False)}
        for variable in variables:
            if variable not in shapes:
                raise StudyError(
                    f"{path}: has no variable {variable!r}, only {', '.join(shapes) or 'none'}"
                )
            if math.prod(shapes[variable]) > MOST_ELEMENTS:
                raise StudyError(f"{path}: {variable} has {math.prod(shapes[variable])} elements")
        found = loadmat(path, appendmat=False, simplify_cells=True, variable_names=variables)
    except StudyError:
        raise
    except NotImplementedError:
        raise StudyError(
            f"{path}: is a file of MATLAB 7.3 (HDF5); save it with -v7 in MATLAB"
        ) from None
    # A damaged file raises all kinds of exceptions.
    except Exception as error:
        raise StudyError(
            f"{path}: cannot be read as a .mat file: {error or type(error).__name__}"
        ) from None
    return [found[variable] for variable in variables]


def whole_numbers(path, variable, value):
    """A variable as a list of ints. StudyError if it holds anything else."""
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "iuf" or array.ndim != 1 or (array != np.round(array)).any():
        raise StudyError(f"{path}: {variable} is no list of whole numbers")
    return [int(number) for number in array]


def records(path, variable, value, keys):
    """An array of structures as a list of dictionaries that all have ``keys``; StudyError if it is none."""
    found = [value] if isinstance(value, dict) else list(value)
    for number, one in enumerate(found, 1):
        missing = [key for key in keys if not isinstance(one, dict) or key not in one]
        if missing:
            raise StudyError(f"{path}: entry {number} of {variable} has no {', '.join(missing)}")
    return found


def texts(path, variable, value):
    """A cell array of texts as a list. StudyError if it holds anything else."""
    found = [value] if isinstance(value, str) else list(value)
    if not all(isinstance(one, str) for one in found):
        raise StudyError(f"{path}: {variable} is no list of texts")
    return [str(one) for one in found]
