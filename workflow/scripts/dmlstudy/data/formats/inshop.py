"""In-shop Clothes Retrieval (DeepFashion): img/…, list_eval_partition.txt, list_bbox_inshop.txt."""

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import tables
from dmlstudy.data.formats.published import (
    Rows,
    corner_box,
    fields,
    find_root,
    read_lines,
    single_reasons,
    unlisted,
    without_singles,
)

NAME = "In-shop Clothes Retrieval"
PARTITION, BOXES = "list_eval_partition.txt", "list_bbox_inshop.txt"
STATUS = ("train", "query", "gallery")


def _place(folder):
    """(folder with ``img``, path of the partition, path of the boxes), as downloaded or all in one."""
    for marker in (f"Eval/{PARTITION}", PARTITION):
        try:
            root = find_root(folder, marker, NAME)
        except StudyError:
            continue
        inner = root / "Img" if (root / "Img/img").is_dir() else root
        boxes = root / "Anno" / BOXES if (root / "Anno" / BOXES).is_file() else root / BOXES
        return inner, root / marker, boxes
    raise StudyError(f"{folder}: expected one Eval/{PARTITION} in it (the layout of {NAME})")


def _table(path, columns):
    """(place, fields) of each row, below a line with the number of rows and one with the columns."""
    lines = read_lines(path, NAME)
    (where, number), (head, names) = lines[0], lines[min(1, len(lines) - 1)]
    if names.split() != columns:
        raise StudyError(f"{head}: the columns must be {' '.join(columns)}")
    if tables.whole_number(number.strip()) != len(lines) - 2:
        raise StudyError(f"{where}: says {number.strip()} rows, but {len(lines) - 2} follow")
    return [
        (where, fields(where, line, len(columns), " ".join(columns))) for where, line in lines[2:]
    ]


def _read(folder):
    """(names, rows, rows of items with a single image)."""
    base, partition, boxes = _place(folder)
    corners = {}
    if boxes.is_file():
        columns = ["image_name", "clothes_type", "pose_type", "x_1", "y_1", "x_2", "y_2"]
        for where, (image, _, _, *box) in _table(boxes, columns):
            corners[image] = corner_box(where, box, first=0)
    rows, status = Rows(folder, base), {}
    for where, (image, item, part) in _table(
        partition, ["image_name", "item_id", "evaluation_status"]
    ):
        if part not in STATUS:
            raise StudyError(f"{where}: the status is {part!r}; must be one of {', '.join(STATUS)}")
        if status.setdefault(item, part == "train") != (part == "train"):
            raise StudyError(f"{where}: {item} is a training item and a test item")
        rows.add(where, image, item, box=corners.get(image))
    names = sorted(status, key=lambda item: (not status[item], item))
    ids = {item: index for index, item in enumerate(names)}
    return without_singles(names, [{**row, "class_id": ids[row["class_id"]]} for row in rows.rows])


def build(folder):
    """Return (class names, rows); see `cub.build`.

    A class is one item. Training items come first, then test items, so that the last classes are the
    ones that published models never see. There is no split of images: the published one splits the
    classes. Items with a single image are left out, see `left_out`.
    """
    return _read(folder)[:2]


def left_out(folder, own=None, *, by_content=False):
    """What `build` does not list, such as items with a single image; see `folders.left_out`."""
    _, rows, singles = _read(folder)
    return unlisted(folder, own, rows, single_reasons(singles), by_content=by_content)
