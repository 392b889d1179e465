"""A check-up of a data set before any training: everything that is wrong, not just the first thing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.data.dataset import (
    draw_split,
    duplicates,
    list_rows,
    make_class_set,
    manifest_table,
    too_small,
    without_a_part,
)
from dmlstudy.data.images import open_rgb
from dmlstudy.data.pack import refuse_strip

PROBLEM_COLUMNS = ["must_be_mended", "kind", "class_name", "path", "problem"]
CLASS_COLUMNS = ["class_name", "images", "unreadable", "train", "validation", "test"]


def check_up(
    folder,
    data_format,
    *,
    max_pixels,
    classes=None,
    csv=None,
    resizes=(),
    unseen=0,
    split,
    threads=1,
    progress=None,
):
    """Decode every image and return (problems, classes), two tables.

    problems: ``must_be_mended`` ("yes": the study would stop, or its figures would be wrong; "no":
    worth knowing), ``kind`` (tables, image, class, split, duplicate), ``class_name``, ``path``,
    ``problem`` in words. classes: ``class_name, images, unreadable, train, validation, test``, the
    parts as the study would draw them without the unreadable images and the classes that are too
    small. ``split``: keyword arguments of `dataset.make_split`; ``resizes``: names of packs;
    ``unseen``: how many classes limited models leave out; the others as in `dataset.make_manifest`.
    """
    problems = []

    def report(kind, problem, class_name="", path="", mend=True):
        problems.append(("yes" if mend else "no", kind, class_name, path, problem))

    try:
        names, rows = list_rows(folder, data_format, csv=csv)
    except StudyError as error:
        report("tables", str(error))
        return pd.DataFrame(problems, columns=PROBLEM_COLUMNS), pd.DataFrame(columns=CLASS_COLUMNS)
    if classes is not None and len(names) != classes:
        report("tables", f"{len(names)} classes, but dataset.classes says {classes}")
    try:
        make_class_set(len(names), "limited_classes", unseen=unseen)
    except StudyError as error:
        report("split", str(error))

    def look(row):
        path = Path(folder) / row["path"]
        try:
            size = open_rgb(path, max_pixels=max_pixels).size
            for resize in resizes:
                refuse_strip(path, *size, resize, max_pixels)
            return *size, file_digest(path)
        except (StudyError, OSError) as error:
            return str(error)

    looks = []
    with ThreadPoolExecutor(threads) as pool:
        for row, found in zip(rows, pool.map(look, rows), strict=True):
            looks.append(found)
            if isinstance(found, str):
                report("image", found, names[row["class_id"]], row["path"])
            if progress:
                progress(1)
    good = [index for index, found in enumerate(looks) if not isinstance(found, str)]
    manifest = manifest_table(names, [rows[i] for i in good], [looks[i] for i in good])

    counts = {name: [0, 0] for name in names}
    for row, found in zip(rows, looks, strict=True):
        counts[names[row["class_id"]]][0] += 1
        counts[names[row["class_id"]]][1] += isinstance(found, str)
    table = _draw(manifest, counts, split, report)

    for _, group in duplicates(manifest, table).groupby("group"):
        paths = group["path"].tolist()
        where = "; ".join(
            f"{path} ({', '.join(filter(None, (name, part)))})"
            for path, name, part in zip(paths, group["class_name"], group["part"], strict=True)
        )
        problem = group["problem"].iloc[0]
        report(
            "duplicate",
            f"the same file {problem}: {where}",
            group["class_name"].iloc[0],
            paths[0],
            mend=problem != "twice",
        )

    overview = pd.DataFrame(
        [(name, images, unreadable) for name, (images, unreadable) in counts.items()],
        columns=CLASS_COLUMNS[:3],
    )
    drawn = manifest.merge(table, on="image_id")
    for part in CLASS_COLUMNS[3:]:
        shares = drawn[drawn["part"] == part].groupby("class_name").size()
        overview[part] = overview["class_name"].map(shares).fillna(0).astype(int)
    return pd.DataFrame(problems, columns=PROBLEM_COLUMNS), overview


def _draw(manifest, counts, split, report):
    """The split of the classes that are large enough; what stands against one is reported."""
    for name, (images, unreadable) in counts.items():
        if images == unreadable:
            report(
                "class", f"class {name!r} has no images{' that can be read' * bool(images)}", name
            )
    small = too_small(manifest, split["validation_share"])
    for name, sentence in small.items():
        report("class", sentence, name)
    large = manifest[~manifest["class_name"].isin(small)]
    ids = large["image_id"].to_numpy()
    # Rows are numbered anew, since a split is drawn from all rows of a manifest.
    large = large.reset_index(drop=True).assign(image_id=range(len(large)))
    empty = pd.DataFrame({"image_id": [], "part": []}).astype({"image_id": int, "part": str})
    if large.empty:
        return empty
    try:
        table = draw_split(large, **split)
    except StudyError as error:
        report("split", str(error))
        return empty
    for name, sentence in without_a_part(large, table, split["method"]):
        report("class", sentence, name)
    return table.assign(image_id=ids)
