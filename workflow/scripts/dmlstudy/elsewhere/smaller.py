"""A copy of a data set whose photographs have a smaller side, as a data set of its own.

Its pixels are not those of the original: they were resized and compressed once more. So its results
belong into a results folder of their own, under a name of their own.
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dmlstudy.core.files import atomic_path
from dmlstudy.data.class_names import in_order
from dmlstudy.data.dataset import BOX, read_manifest
from dmlstudy.data.images import open_rgb
from dmlstudy.data.resizing import parse_resize

TABLE = "images.csv"


def make_smaller(folder, images, manifest, side, quality, *, max_pixels, threads=1):
    """Write smaller JPEGs and a table of them to ``folder``; returns the number of classes.

    ``images``: the original's folder; ``manifest``: path of its manifest. A photograph whose shorter
    side is above ``side`` pixels is resized to it. Order of images and classes stays, so the same split
    is drawn. Bounding boxes are scaled. ``quality``: of JPEG, 1 to 95.
    """
    folder, table = Path(folder), read_manifest(manifest)
    names = list(dict.fromkeys(table.sort_values("class_id")["class_name"]))
    if in_order(names) != names:
        # Classes are sorted by name. Digits first, so that they are text, not numbers.
        width = len(str(len(names)))
        names = [f"{number:0{width}}.{name}" for number, name in enumerate(names, 1)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    resize = parse_resize(f"shorter{side}")

    def one(row):
        image = open_rgb(str(Path(images) / row["path"]), max_pixels=max_pixels)
        width, height = image.size
        if min(image.size) > side:
            image = resize.apply(image)
        path = f"images/{row['image_id']:07}.jpg"
        with atomic_path(folder / path) as temporary, open(temporary, "wb") as stream:
            image.save(stream, "JPEG", quality=quality, optimize=True)
        result = {"path": path, "label": names[row["class_id"]], "original": row["path"]}
        if row.get("official_part"):
            result["split"] = row["official_part"]
        if BOX[0] in row:
            left, top, wide, high = (row[name] for name in BOX)
            across, down = image.width / width, image.height / height
            edges = (left * across, (left + wide) * across, top * down, (top + high) * down)
            # An image without a box has NaN.
            texts = [f"{edge:.4f}" if edge == edge else "" for edge in edges]
            result |= dict(zip(("x_1", "x_2", "y_1", "y_2"), texts, strict=True))
        return result

    with ThreadPoolExecutor(threads) as pool:
        rows = list(pool.map(one, table.to_dict("records")))
    with (
        atomic_path(folder / TABLE) as path,
        open(path, "w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(names)


def dataset_entry(dataset, folder, classes):
    """The configuration's entry of the copy in ``folder``; ``dataset``: that of the original."""
    return {
        "name": dataset["name"],
        "format": "csv",
        "csv": TABLE,
        "source": str(Path(folder).absolute()),
        "classes": classes,
        "md5": None,
        "sha256": None,
        "bytes": None,
    }
