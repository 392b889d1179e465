"""The tables of a data set: manifest (images), split (parts), class sets (seen and unseen)."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from dmlstudy.core import registry
from dmlstudy.core.files import StudyError, file_digest, write_text
from dmlstudy.data.images import upright_size

BOX = ["box_x", "box_y", "box_width", "box_height"]


def write_csv(path, table, **options):
    """Write a data frame, whole or not at all; floats keep six decimals, line ends are \\n."""
    options = {"index": False, "float_format": "%.6f", "lineterminator": "\n", **options}
    write_text(path, table.to_csv(**options))


def refuse_unprintable(text, folder):
    """Raise StudyError for a name or path that cannot stand in one line of a table in UTF-8."""
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise StudyError(
            f"{folder}: {text!a}: holds a control character or is not UTF-8; rename it"
        )


def list_rows(folder, data_format, *, classes=None, csv=None):
    """(class names, rows sorted by class and path) of a data set, without opening its images.

    ``csv``: name of the table, for the format that reads one; ``classes``: how many there must be. Rows
    as in `formats.cub.build`. Raises StudyError for tables that do not fit together.
    """
    options = {} if csv is None else {"csv": csv}
    names, rows = registry.load("format", data_format)(folder, **options)
    for text in [*names, *(row["path"] for row in rows)]:
        refuse_unprintable(text, folder)
    if classes is not None and len(names) != classes:
        raise StudyError(f"{folder}: {len(names)} classes, but dataset.classes says {classes}")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise StudyError(f"{folder}: two classes are called {twice[0]!r}")
    return names, sorted(rows, key=lambda row: (row["class_id"], row["path"]))


def make_manifest(folder, data_format, *, max_pixels, classes=None, csv=None, threads=1):
    """Table of a data set's images, a row per image, sorted by class and path.

    Columns: image_id (0-based), path (relative to ``folder``), class_id (0-based, the data set's
    order), class_name, width, height (as a person sees the image), sha256 of the file, and where
    the data set has them box_x, box_y, box_width, box_height (pixels; empty where an image has none)
    and official_part. ``classes``, ``csv``: see `list_rows`. Raises StudyError that names the file
    for anything that does not fit.
    """
    names, rows = list_rows(folder, data_format, classes=classes, csv=csv)
    present = {row["class_id"] for row in rows}
    for class_id, name in enumerate(names):
        if class_id not in present:
            raise StudyError(f"{folder}: class {name!r} has no images")
    root = Path(folder)

    def look(row):
        path = root / row["path"]
        return *upright_size(path, max_pixels=max_pixels), file_digest(path)

    with ThreadPoolExecutor(threads) as pool:
        looks = list(pool.map(look, rows))
    return manifest_table(names, rows, looks)


def manifest_table(names, rows, looks):
    """The manifest of rows that were looked at: ``looks`` holds (width, height, sha256) of each."""
    table = pd.DataFrame(
        {
            "image_id": range(len(rows)),
            "path": [row["path"] for row in rows],
            "class_id": [row["class_id"] for row in rows],
            "class_name": [names[row["class_id"]] for row in rows],
            "width": [width for width, _, _ in looks],
            "height": [height for _, height, _ in looks],
            "sha256": [digest for _, _, digest in looks],
        }
    )
    if any(row["box"] for row in rows):
        table[BOX] = np.array([row["box"] or [np.nan] * 4 for row in rows])
    if all(row["official_part"] for row in rows):
        table["official_part"] = [row["official_part"] for row in rows]
    return table


def read_manifest(path):
    # A class may be called "NA", which pandas would read as a missing value.
    return pd.read_csv(
        path,
        keep_default_na=False,
        na_values={name: [""] for name in BOX},
        dtype={"class_name": str, "path": str, "sha256": str},
    )


def make_split(manifest, *, method, test_share, validation_share, seed):
    """Table ``image_id, part``: scikit-learn's stratified split of the manifest's rows.

    ``method`` is ``stratified`` or ``official`` (the data set's own, which the manifest must hold).
    Raises StudyError that names a class with too few images.
    """
    for sentence in too_small(manifest, validation_share).values():
        raise StudyError(sentence)
    table = draw_split(
        manifest,
        method=method,
        test_share=test_share,
        validation_share=validation_share,
        seed=seed,
    )
    for _, sentence in without_a_part(manifest, table, method):
        raise StudyError(sentence)
    return table


def draw_split(manifest, *, method, test_share, validation_share, seed):
    """As `make_split`, of a manifest without too small classes; a class may lack a part."""
    from sklearn.model_selection import train_test_split

    table = pd.DataFrame({"image_id": manifest["image_id"], "part": "train"})
    ids, labels = manifest["image_id"].to_numpy(), manifest["class_id"].to_numpy()
    if method == "official":
        if "official_part" not in manifest:
            raise StudyError("protocol.split: official, but the data set has no split of its own")
        table["part"] = manifest["official_part"]
        if validation_share and (table["part"] == "validation").any():
            raise StudyError(
                "protocol.validation_share: the official split has a validation part already; set 0"
            )
        rest = ids[manifest["official_part"] == "train"]
    else:
        try:
            rest, test = train_test_split(
                ids, test_size=test_share, random_state=seed, stratify=labels
            )
        except ValueError as error:
            raise StudyError(f"protocol.test_share {test_share}: {error}") from None
        table.loc[test, "part"] = "test"
    if validation_share:
        try:
            _, validation = train_test_split(
                np.sort(rest),
                test_size=validation_share,
                random_state=seed,
                stratify=labels[np.sort(rest)],
            )
        except ValueError as error:
            raise StudyError(f"protocol.validation_share {validation_share}: {error}") from None
        table.loc[validation, "part"] = "validation"
    return table


def too_small(manifest, validation_share):
    """{class name: sentence} of the classes with fewer images than there are parts."""
    parts = 2 + (validation_share > 0)
    return {
        name: f"class {name!r} has {count} image(s); splitting needs at least {parts} a class"
        for name, count in manifest.groupby("class_name", sort=False).size().items()
        if count < parts
    }


def without_a_part(manifest, split, method):
    """(class name, sentence) for each class that has no image in the training or the test part."""
    counts = manifest.groupby("class_name", sort=False).size()
    remedy = (
        "set protocol.split: stratified to draw another split than the data set's own"
        if method == "official"
        else "give it more images or change protocol.test_share"
    )
    found = []
    for part in ("train", "test"):
        present = set(manifest.loc[split["part"] == part, "class_name"])
        found += [
            (
                name,
                f"class {name!r} has {count} image(s), none of which fell into the {part} part; "
                f"{remedy}",
            )
            for name, count in counts.items()
            if name not in present
        ]
    return found


def duplicates(manifest, split):
    """Table of files with the same bytes: ``group, image_id, path, class_name, part, problem``.

    A row per image; ``group`` counts the different contents. ``problem`` says what is wrong with the
    group: "in two classes" (one label is wrong), "in two parts" (a query finds itself in the
    gallery) or "twice" (harmless, but counted double). ``part`` is empty where the split has no row.
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
    """Table ``class_set, class_id, seen, label`` of one class set; ``unseen`` classes are left out.

    Without a ``seed`` (an integer or a list of them) these are the last ones, else drawn at random.
    ``label`` counts the seen classes 0…n−1 in order of class id and is −1 for unseen ones.
    Raises StudyError where no class would remain.
    """
    if not 0 <= unseen < num_classes:
        raise StudyError(
            f"protocol.unseen_classes: {unseen} of {num_classes} classes cannot be left out; "
            f"at least one must remain"
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

    Attributes are arrays over images, indexed by image_id: ``class_ids``, ``labels`` (−1 for
    unseen), ``parts`` (str). ``class_names`` is indexed by class_id, ``seen`` is its boolean mask;
    ``class_set`` is the set's name.
    """

    def __init__(self, manifest, split, class_set):
        table = manifest.merge(split, on="image_id", validate="one_to_one")
        if len(table) != len(manifest) or (table["image_id"] != np.arange(len(table))).any():
            raise StudyError("manifest and split do not hold the same images in one order")
        chosen = class_set.sort_values("class_id")
        self.class_ids = table["class_id"].to_numpy()
        if sorted(set(self.class_ids)) != chosen["class_id"].tolist():
            raise StudyError("manifest and class set do not hold the same classes")
        self.class_set = chosen["class_set"].iat[0]
        self.parts = table["part"].to_numpy(dtype=str)
        self.labels = chosen["label"].to_numpy()[self.class_ids]
        self.seen = chosen["seen"].to_numpy(dtype=bool)
        names = manifest.drop_duplicates("class_id").set_index("class_id")["class_name"]
        self.class_names = [names[index] for index in range(len(chosen))]
        self.num_seen = int(self.seen.sum())

    @classmethod
    def read(cls, manifest, split, class_set):
        """From the files of the three tables."""
        return cls(read_manifest(manifest), pd.read_csv(split), pd.read_csv(class_set))

    def images(self, part, seen_only=False):
        """Sorted image ids of a part, of all or of the seen classes only."""
        chosen = self.parts == part
        if seen_only:
            chosen &= self.labels >= 0
        return np.flatnonzero(chosen)
