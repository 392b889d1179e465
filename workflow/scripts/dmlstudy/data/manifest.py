"""Make the manifest of a data set from its folder."""

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.data.dataset import manifest_table
from dmlstudy.data.images import size_with_note
from dmlstudy.data.listing import list_rows, refuse_special_file
from dmlstudy.data.remarks import image_remarks


def make_manifest(folder, data_format, *, max_pixels, classes=None, csv=None, own=None, threads=1):
    """The manifest of a data set: a row per image, sorted by class and path.

    Columns: image_id (0-based), path (relative to ``folder``), class_id (0-based, in the data set's own
    order), class_name, width and height (pixels, after the EXIF orientation is applied), sha256 of the
    file. Optional columns, if the data set has them: box_x, box_y, box_width, box_height (pixels; empty
    for images without a box) and official_part. ``classes``, ``csv``, ``own``: see `list_rows`;
    ``max_pixels``: see `images.upright_size`. Logs a warning for images whose range of values is a
    guess and for boxes outside their images. Raises StudyError that names the file or class.
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
        size, note = size_with_note(path, max_pixels=max_pixels)
        return (*size, file_digest(path)), note

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(inspect, rows))
    inspected = [image for image, _ in results]
    for remark in image_remarks(rows, inspected, [note for _, note in results]):
        logging.warning("%s: %s", folder, remark)
    return manifest_table(names, rows, inspected)
