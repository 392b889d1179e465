"""Check a data set before any training and list all of its problems, not only the first one."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from dmlstudy.core import console
from dmlstudy.core.files import StudyError, file_digest
from dmlstudy.data.copies import KINDS
from dmlstudy.data.dataset import (
    classes_missing_from_a_part,
    draw_split,
    duplicates,
    make_class_set,
    manifest_table,
    too_small_classes,
)
from dmlstudy.data.grouped_split import (
    DROPPED,
    PARTS,
    classes_in_one_group,
    group_parts,
    groups_of,
    shares,
)
from dmlstudy.data.images import open_with_note
from dmlstudy.data.listing import (
    left_out,
    list_rows,
    refuse_special_file,
    similar_names,
)
from dmlstudy.data.pack import check_resized_size
from dmlstudy.data.remarks import image_remarks

PROBLEM_COLUMNS = ["must_be_fixed", "kind", "class_name", "path", "problem"]
CLASS_COLUMNS = ["class_name", "images", "unreadable", "train", "validation", "test"]


def find_problems(
    folder,
    data_format,
    *,
    max_pixels,
    classes=None,
    csv=None,
    own=None,
    resizes=(),
    unseen=0,
    split,
    grouping=None,
    copies=None,
    threads=1,
    progress=None,
):
    """Decode every image of a data set and return two tables: (problems, classes).

    problems, a row per problem: ``must_be_fixed`` ("yes": the study would stop, or its results would
    be wrong; "no": only worth knowing), ``kind`` (tables, image, class, split, duplicate,
    near duplicate, left out),
    ``class_name``, ``path`` and ``problem`` (a sentence).

    classes, a row per class: ``class_name, images, unreadable, train, validation, test``. The last
    three count the images of each part of the split that the study would draw after unreadable images
    and classes that are too small are removed.

    ``split``: keyword arguments of `dataset.make_split`; ``grouping``: those of `grouped_split.groups_of`
    and ``duplicates``, if the study's split depends on them. ``copies``: a `CopySearch`, to find more
    than files with the same bytes. ``resizes``: names of packs (shorter246, …);
    ``unseen``: number of classes that limited models leave out; ``progress(1)`` is called after each
    image. Other arguments: see `manifest.make_manifest`.
    """
    problems = []

    def report(kind, problem, class_name="", path="", must_fix=True):
        problems.append(("yes" if must_fix else "no", kind, class_name, path, problem))

    try:
        names, rows = list_rows(folder, data_format, csv=csv, own=own)
    except StudyError as error:
        report("tables", str(error))
        return pd.DataFrame(problems, columns=PROBLEM_COLUMNS), pd.DataFrame(columns=CLASS_COLUMNS)
    if classes is not None and len(names) != classes:
        report("tables", f"{len(names)} classes, but dataset.classes says {classes}")
    try:
        make_class_set(len(names), "limited_classes", unseen=unseen)
    except StudyError as error:
        report("split", str(error))

    def inspect(row):
        path = Path(folder) / row["path"]
        try:
            refuse_special_file(path)
            image, note = open_with_note(path, max_pixels=max_pixels)
            size = image.size
            for resize in resizes:
                check_resized_size(path, *size, resize, max_pixels)
            if copies:
                copies.look(row["path"], image)
            return (*size, file_digest(path)), note
        except (StudyError, OSError) as error:
            return str(error)

    good_rows, inspected, notes = [], [], []
    # Images and unreadable images of each class.
    counts = {name: [0, 0] for name in names}
    with ThreadPoolExecutor(threads) as pool:
        for row, result in zip(rows, pool.map(inspect, rows), strict=True):
            class_name = names[row["class_id"]]
            counts[class_name][0] += 1
            if isinstance(result, str):
                counts[class_name][1] += 1
                report("image", result, class_name, row["path"])
            else:
                good_rows.append(row)
                inspected.append(result[0])
                notes.append(result[1])
            if progress:
                progress(1)
    for remark in image_remarks(good_rows, inspected, notes):
        report("image", remark, must_fix=False)
    manifest = manifest_table(names, good_rows, inspected)
    if copies:
        copies.find(folder, manifest)
    table = _draw(folder, manifest, counts, split, grouping or {}, copies, report)
    if copies:
        copies.judge(table)
        for sentence, first, must_fix in copies.sentences():
            kind = "near duplicate" if first.kind == KINDS[2] else "duplicate"
            report(kind, sentence, first.class_name, first.path, must_fix=must_fix)

    dropped = table.loc[table["part"] == DROPPED, "image_id"]
    used = manifest[~manifest["image_id"].isin(dropped)]
    for _, group in duplicates(used, table).groupby("group"):
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
            must_fix=problem != "twice",
        )

    for first, second in similar_names(names):
        report(
            "class",
            f"classes {first!r} and {second!r} differ only in case, blanks or invisible characters",
            second,
            must_fix=False,
        )
    for one in left_out(folder, data_format, rows, own=own, by_content=True):
        path = console.printable(one.path)
        report("left out", f"{path}: {one.reason}", path=path, must_fix=False)

    overview = pd.DataFrame(
        [(name, images, unreadable) for name, (images, unreadable) in counts.items()],
        columns=CLASS_COLUMNS[:3],
    )
    drawn = manifest.merge(table, on="image_id")
    for part in CLASS_COLUMNS[3:]:
        shares = drawn[drawn["part"] == part].groupby("class_name").size()
        overview[part] = overview["class_name"].map(shares).fillna(0).astype(int)
    return pd.DataFrame(problems, columns=PROBLEM_COLUMNS), overview


def _draw(folder, manifest, counts, split, grouping, copies, report):
    """The split of all classes that are large enough; ``report`` gets the problems of the others.

    ``counts``: {class name: [images, unreadable images]}.
    """
    for name, (images, unreadable) in counts.items():
        if images == unreadable:
            report("class", f"class {name!r} has no{' readable' * bool(images)} images", name)
    small = too_small_classes(manifest)
    for name, sentence in small.items():
        report("class", sentence, name)
    large = manifest[~manifest["class_name"].isin(small)]
    ids = large["image_id"].to_numpy()
    # `draw_split` expects image ids 0…n−1.
    large = large.reset_index(drop=True).assign(image_id=range(len(large)))
    empty = pd.DataFrame({"image_id": [], "part": []}).astype({"image_id": int, "part": str})
    if large.empty:
        return empty
    in_one_group = {}
    try:
        table = draw_split(large, **split)
        if grouping:
            found = None if copies is None else copies.renumbered(ids)
            table, in_one_group = _regrouped(folder, large, table, split, grouping, found, report)
    except StudyError as error:
        report("split", str(error))
        return empty
    for name, sentence in in_one_group.items():
        report("class", sentence, name)
    for name, sentence in classes_missing_from_a_part(large, table, split["method"]):
        if name not in in_one_group:
            report("class", sentence, name)
    return table.assign(image_id=ids)


def _regrouped(folder, manifest, before, split, grouping, copies, report):
    """The split with groups in one part, and sentences of classes that are one group, by class name."""
    grouping = dict(grouping)
    duplicates_are = grouping.pop("duplicates", "keep")
    table, changes = group_parts(
        manifest,
        before,
        stratified=split["method"] == "stratified",
        test_share=split["test_share"],
        seed=split["seed"],
        duplicates=duplicates_are,
        copies=copies,
        groups=groups_of(folder, manifest["path"].tolist(), **grouping),
    )
    for one in changes[changes["part"] == DROPPED].itertuples():
        report("duplicate", f"{one.path}: {one.why}", one.class_name, one.path, must_fix=False)
    moved = changes["why"].str.startswith("moved").sum()
    by_class = shares(manifest, table)
    report(
        "split",
        f"{moved} photographs moved so that each group stands in one part; the share of test images is "
        f"{(table['part'] == 'test').sum() / table['part'].isin(PARTS).sum():.3f}, by class "
        f"{by_class.min():.3f} ({by_class.idxmin()}) to {by_class.max():.3f} ({by_class.idxmax()})",
        must_fix=False,
    )
    return table, classes_in_one_group(manifest, table, changes)
