"""FGVC-Aircraft: data/images/*.jpg, data/variants.txt, data/images_variant_*.txt, data/images_box.txt."""

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats.published import Rows, corner_box, fields, find_root, read_lines

NAME = "FGVC-Aircraft"
PARTS = {"train": "train", "val": "validation", "test": "test"}


def _boxes(path):
    """{image: box}; no boxes if there is no such file."""
    found = {}
    for where, line in read_lines(path, NAME) if path.is_file() else ():
        image, *corners = fields(where, line, 5, "image, xmin, ymin, xmax and ymax")
        found[image] = corner_box(where, corners, first=1)
    return found


def build(folder):
    """Return (class names, rows) of the variants, the finest level; see `cub.build`."""
    data = find_root(folder, "data/variants.txt", NAME) / "data"
    names = [line.strip() for _, line in read_lines(data / "variants.txt", NAME)]
    ids = {name: index for index, name in enumerate(names)}
    boxes = _boxes(data / "images_box.txt")
    rows = Rows(folder, data / "images")
    for file, part in PARTS.items():
        for where, line in read_lines(data / f"images_variant_{file}.txt", NAME):
            image, _, variant = line.strip().partition(" ")
            if variant not in ids:
                raise StudyError(f"{where}: {variant!r} is not in variants.txt")
            rows.add(where, f"{image}.jpg", ids[variant], box=boxes.get(image), part=part)
    return names, rows.rows
