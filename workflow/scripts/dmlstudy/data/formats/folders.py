"""A folder of images per class."""

from pathlib import Path

from dmlstudy.core.files import StudyError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm"}
# Names of folders for the parts of a split, which are not classes.
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def _visible(folder):
    return sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX"))),
        key=lambda entry: entry.name,
    )


def build(folder):
    """Return (class names, rows) of a folder of folders, classes sorted by name; see `cub.build`.

    Images may be in subfolders of a class's folder. A single outer folder, as in many archives, is
    skipped. Raises StudyError if there are no images.
    """
    folder = Path(folder)
    root = folder
    while True:
        inner = [entry for entry in _visible(root) if entry.is_dir()]
        if len(inner) == 1 and any(entry.is_dir() for entry in _visible(inner[0])):
            root = inner[0]
        else:
            break
    if len(inner) > 1 and {entry.name.lower() for entry in inner} <= PARTS:
        raise StudyError(
            f"{root}: {', '.join(entry.name for entry in inner)} look like parts of a split, not like "
            "classes; put the folders of all classes side by side, or write a table that gives the part "
            "of each image (dataset.format: csv, with a column split)"
        )
    rows = []
    for class_id, entry in enumerate(inner):
        images = sorted(
            path.relative_to(folder).as_posix()
            for path in entry.rglob("*")
            if path.suffix.lower() in EXTENSIONS
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(entry).parts)
        )
        rows += [
            {"path": path, "class_id": class_id, "box": None, "official_part": None}
            for path in images
        ]
    if not rows:
        raise StudyError(f"{folder}: contains no folders of images; expected one folder per class")
    return [entry.name for entry in inner], rows
