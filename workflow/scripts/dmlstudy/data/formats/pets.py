"""Oxford-IIIT Pet: images/*.jpg, annotations/trainval.txt and test.txt, annotations/xmls/*.xml."""

import re
from xml.etree import ElementTree

from dmlstudy.core.files import StudyError
from dmlstudy.data.formats import tables
from dmlstudy.data.formats.published import (
    Rows,
    class_number,
    corner_box,
    fields,
    find_root,
    read_lines,
    refuse_unused,
)

NAME = "Oxford-IIIT Pet"
CLASSES = 37
PARTS = {"trainval": "train", "test": "test"}
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _head(path):
    """The box of the animal's head in an annotation of Pascal VOC, or None if there is no file."""
    if not path.is_file():
        return None
    text = tables.read_text(path)
    # A document type can define texts that grow without end when they are read.
    if "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
        raise StudyError(f"{path}: holds a document type, which no annotation has")
    try:
        found = ElementTree.fromstring(text).find("object/bndbox")
    except ElementTree.ParseError as error:
        raise StudyError(f"{path}: cannot be read as XML: {error}") from None
    corners = [None if found is None else found.findtext(corner) for corner in CORNERS]
    if None in corners:
        raise StudyError(f"{path}: has no bounding box ({', '.join(CORNERS)})")
    return corner_box(path, corners, first=1)


def build(folder):
    """Return (class names, rows); see `cub.build`.

    A name is the beginning of the images' names. Boxes are those of heads, which training images have.
    """
    root = find_root(folder, "annotations/trainval.txt", NAME)
    annotations = root / "annotations"
    rows, names = Rows(folder, root / "images"), {}
    for file, part in PARTS.items():
        for where, line in read_lines(annotations / f"{file}.txt", NAME):
            if line.startswith("#"):
                continue
            image, label, *_ = fields(where, line, 4, "image, class, species and breed")
            class_id = class_number(where, label, CLASSES)
            breed = image.rpartition("_")[0]
            if not breed or names.setdefault(class_id, breed) != breed:
                raise StudyError(
                    f"{where}: {image} has class {label}, which is {names.get(class_id, 'nameless')}"
                )
            # The path is checked before anything with this name is opened.
            rows.add(where, f"{image}.jpg", class_id, part=part)
            rows.rows[-1]["box"] = _head(annotations / "xmls" / f"{image}.xml")
    found = [names.get(class_id, f"class {class_id + 1}") for class_id in range(CLASSES)]
    refuse_unused(found, rows.rows, annotations)
    return found, rows.rows
