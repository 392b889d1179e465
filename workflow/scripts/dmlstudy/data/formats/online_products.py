"""Stanford Online Products: Ebay_train.txt, Ebay_test.txt, and a folder of images per kind of product."""

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import tables
from dmlstudy.data.formats.published import Rows, fields, find_root, read_lines

NAME = "Stanford Online Products"
COLUMNS = ["image_id", "class_id", "super_class_id", "path"]


def build(folder):
    """Return (class names, rows); see `cub.build`.

    A class is one product. Those of the training list come first, then those of the test list, so that
    the last classes are the ones that published models never see. There is no split of images: the
    published one splits the classes.
    """
    root = find_root(folder, "Ebay_train.txt", NAME)
    rows, names, lists = Rows(folder, root), {}, {}
    for file in ("Ebay_train.txt", "Ebay_test.txt"):
        head, *lines = read_lines(root / file, NAME)
        if head[1].split() != COLUMNS:
            raise StudyError(f"{head[0]}: the columns must be {' '.join(COLUMNS)}")
        for where, line in lines:
            _, label, _, path = fields(where, line, 4, " ".join(COLUMNS))
            number = tables.whole_number(label)
            if number is None:
                raise StudyError(f"{where}: class_id is {label!r}; must be a whole number")
            if lists.setdefault(number, file) != file:
                raise StudyError(f"{where}: class {number} is in {lists[number]} as well")
            kind = path.partition("/")[0].removesuffix("_final")
            names.setdefault(number, f"{kind} {number}")
            rows.add(where, path, number)
    order = sorted(names, key=lambda number: (lists[number] == "Ebay_test.txt", number))
    ids = {number: index for index, number in enumerate(order)}
    return (
        [names[number] for number in order],
        [{**row, "class_id": ids[row["class_id"]]} for row in rows.rows],
    )
