"""Make the manifest of a data set from its folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.data.dataset import manifest_table
from dmlstudy.data.images import upright_size
from dmlstudy.data.listing import list_rows, refuse_special_file


def make_manifest(folder, data_format, *, max_pixels, classes=None, csv=None, own=None, threads=1):
    """The manifest of a data set: a row per image, sorted by class and path.

    Columns: image_id (0-based), path (relative to ``folder``), class_id (0-based, in the data set's own
    order), class_name, width and height (pixels, after the EXIF orientation is applied), sha256 of the
    file. Optional columns, if the data set has them: box_x, box_y, box_width, box_height (pixels; empty
    for images without a box) and official_part. ``classes``, ``csv``, ``own``: see `list_rows`; ``max_pixels``:
    see `images.upright_size`. Raises StudyError that names the file or class.
    """
    names, rows = list_rows(folder, data_format, classes=classes, csv=csv, own=own)
    present = {row["class_id"] for row in rows}
    for class_id, name in enumerate(names):
        if class_id not in present:
            raise StudyError(f"{folder}: class {name!r} has no images")
    root = Path(folder)

    def inspect(row):
        path = root / row["path"]
        refuse_special_file(path)
        return *upright_size(path, max_pixels=max_pixels), file_digest(path)

    with ThreadPoolExecutor(threads) as pool:
        inspected = list(pool.map(inspect, rows))
    return manifest_table(names, rows, inspected)
