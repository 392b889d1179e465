"""Food-101: images/CLASS/*.jpg, meta/classes.txt, meta/train.txt, meta/test.txt."""

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats.published import Rows, find_root, read_lines

NAME = "Food-101"
PARTS = ("train", "test")


def build(folder):
    """Return (class names, rows); see `cub.build`. A line of a list is ``CLASS/IMAGE``."""
    root = find_root(folder, "meta/classes.txt", NAME)
    names = [line.strip() for _, line in read_lines(root / "meta/classes.txt", NAME)]
    ids = {name: index for index, name in enumerate(names)}
    rows = Rows(folder, root / "images")
    for part in PARTS:
        for where, line in read_lines(root / f"meta/{part}.txt", NAME):
            image = line.strip()
            name = image.partition("/")[0]
            if name not in ids:
                raise StudyError(f"{where}: {name!r} is not in classes.txt")
            rows.add(where, f"{image}.jpg", ids[name], part=part)
    return names, rows.rows
