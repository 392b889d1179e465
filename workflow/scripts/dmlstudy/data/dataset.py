"""The tables of a data set: manifest (images), split (parts), class sets (seen and unseen classes)."""

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError, write_text

BOX = ["box_x", "box_y", "box_width", "box_height"]


def write_csv(path, table, **options):
    """Write a data frame atomically. Floats have six decimals, lines end with \\n."""
    options = {"index": False, "float_format": "%.6f", "lineterminator": "\n", **options}
    write_text(path, table.to_csv(**options))


def manifest_table(names, rows, inspected):
    """The manifest table of ``rows``; ``inspected``: (width, height, sha256) of each row's file."""
    table = pd.DataFrame(
        {
            "image_id": range(len(rows)),
            "path": [row["path"] for row in rows],
            "class_id": [row["class_id"] for row in rows],
            "class_name": [names[row["class_id"]] for row in rows],
            "width": [width for width, _, _ in inspected],
            "height": [height for _, height, _ in inspected],
            "sha256": [digest for _, _, digest in inspected],
        }
    )
    if any(row["box"] for row in rows):
        table[BOX] = np.array([row["box"] or [np.nan] * 4 for row in rows])
    if all(row["official_part"] for row in rows):
        table["official_part"] = [row["official_part"] for row in rows]
    return table


def read_manifest(path):
    """The table that `manifest.make_manifest` made."""
    # A class may be called "NA", which pandas would read as a missing value.
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values={name: [""] for name in BOX},
        dtype={"class_name": str, "path": str, "sha256": str},
    )


def make_split(manifest, *, method, test_share, seed):
    """Table ``image_id, part``: which images are for training and which for testing.

    ``method``: ``stratified`` (scikit-learn's stratified split of the manifest's rows) or ``official``
    (the data set's own split; the manifest must have the column official_part). An official split may
    also have validation images, which the study does not use.
    Raises StudyError that names a class with too few images, or without images in a part.
    """
    for sentence in too_small_classes(manifest).values():
        raise StudyError(sentence)
    table = draw_split(manifest, method=method, test_share=test_share, seed=seed)
    for _, sentence in classes_missing_from_a_part(manifest, table, method):
        raise StudyError(sentence)
    return table


def draw_split(manifest, *, method, test_share, seed):
    """`make_split` without its checks: a class may have no image in one of the parts."""
    if method == "official":
        if "official_part" not in manifest:
            raise StudyError(
                "protocol.split: official, but the data set has no split of its own; set it to stratified"
            )
        return pd.DataFrame({"image_id": manifest["image_id"], "part": manifest["official_part"]})
    from sklearn.model_selection import train_test_split

    table = pd.DataFrame({"image_id": manifest["image_id"], "part": "train"})
    ids, labels = manifest["image_id"].to_numpy(), manifest["class_id"].to_numpy()
    try:
        _, test = train_test_split(ids, test_size=test_share, random_state=seed, stratify=labels)
    except ValueError as error:
        raise StudyError(f"protocol.test_share {test_share}: {error}") from None
    table.loc[test, "part"] = "test"
    return table


def too_small_classes(manifest):
    """Classes with fewer than two images, one for each part, as {class name: sentence}."""
    return {
        name: f"class {name!r} has {count} image(s); a split needs at least 2 per class"
        for name, count in manifest.groupby("class_name", sort=False).size().items()
        if count < 2
    }


def classes_missing_from_a_part(manifest, split, method):
    """Classes without an image in the training or the test part, as (class name, sentence)."""
    counts = manifest.groupby("class_name", sort=False).size()
    remedy = (
        "set protocol.split: stratified to draw a new split instead of the data set's own"
        if method == "official"
        else "give it more images or change protocol.test_share"
    )
    found = []
    for part in ("train", "test"):
        present = set(manifest.loc[split["part"] == part, "class_name"])
        found += [
            (
                name,
                f"class {name!r} has {count} image(s), but none in the {part} part; {remedy}",
            )
            for name, count in counts.items()
            if name not in present
        ]
    return found


def duplicates(manifest, split):
    """Files with the same bytes, as a table ``group, image_id, path, class_name, part, problem``.

    A row per image; images with the same bytes have the same ``group`` (0, 1, …). ``problem`` is the
    problem of the group: "in two classes" (one label is wrong), "in two parts" (a test image finds a
    copy of itself in the gallery) or "twice" (harmless, but the image counts double). ``part`` is empty
    for images that the split does not contain.
    """
    table = manifest.merge(split, on="image_id", how="left").fillna({"part": ""})
    groups = []
    for _, group in table[table.duplicated("sha256", keep=False)].groupby("sha256", sort=False):
        if group["class_name"].nunique() > 1:
            problem = "in two classes"
        elif group["part"].nunique() > 1:
            problem = "in two parts"
        else:
            problem = "twice"
        groups.append(group.assign(group=len(groups), problem=problem))
    columns = ["group", "image_id", "path", "class_name", "part", "problem"]
    return pd.concat(groups)[columns] if groups else pd.DataFrame(columns=columns)


def make_class_set(num_classes, name, *, unseen, seed=None):
    """One class set as a table ``class_set, class_id, seen, label``; ``unseen``: how many are left out.

    Without ``seed`` the last classes are left out; with ``seed`` (an integer or a list of integers) they
    are drawn at random. ``seen`` is 1 or 0. ``label`` numbers the seen classes 0…n−1 in order of class
    id and is −1 for unseen classes. Raises StudyError if no class would remain.
    """
    if not 0 <= unseen < num_classes:
        raise StudyError(
            f"protocol.unseen_classes: cannot leave out {unseen} of {num_classes} classes; "
            f"at least one class must remain"
        )
    if seed is None:
        left_out = np.arange(num_classes - unseen, num_classes)
    else:
        left_out = np.random.default_rng(seed).choice(num_classes, unseen, replace=False)
    seen = ~np.isin(np.arange(num_classes), left_out)
    return pd.DataFrame(
        {
            "class_set": name,
            "class_id": range(num_classes),
            "seen": seen.astype(int),
            "label": np.where(seen, np.cumsum(seen) - 1, -1),
        }
    )


class Dataset:
    """Manifest, split and one class set, joined.

    Arrays indexed by image_id: ``class_ids`` (int), ``labels`` (int, −1 for unseen classes) and
    ``parts`` (str). Indexed by class_id: ``class_names`` (list of str) and ``seen`` (boolean array).
    ``class_set``: the name of the class set; ``num_seen``: its number of seen classes.
    """

    def __init__(self, manifest, split, class_set):
        table = manifest.merge(split, on="image_id", validate="one_to_one")
        if len(table) != len(manifest) or (table["image_id"] != np.arange(len(table))).any():
            raise StudyError("manifest and split do not list the same images in the same order")
        chosen = class_set.sort_values("class_id")
        self.class_ids = table["class_id"].to_numpy()
        if sorted(set(self.class_ids)) != chosen["class_id"].tolist():
            raise StudyError("manifest and class set do not list the same classes")
        self.class_set = chosen["class_set"].iat[0]
        self.parts = table["part"].to_numpy(dtype=str)
        self.labels = chosen["label"].to_numpy()[self.class_ids]
        self.seen = chosen["seen"].to_numpy(dtype=bool)
        names = manifest.drop_duplicates("class_id").set_index("class_id")["class_name"]
        self.class_names = [names[index] for index in range(len(chosen))]
        self.num_seen = int(self.seen.sum())

    @classmethod
    def read(cls, manifest, split, class_set):
        """Read the three tables from their files."""
        return cls(read_manifest(manifest), pd.read_csv(split), pd.read_csv(class_set))

    def images(self, part, seen_only=False):
        """Sorted image ids (int array) of a part (train, test), optionally of seen classes only."""
        chosen = self.parts == part
        if seen_only:
            chosen &= self.labels >= 0
        return np.flatnonzero(chosen)
