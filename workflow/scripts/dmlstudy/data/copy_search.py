"""The search for copies as a part of the check-up: images are hashed while they are open anyway."""

import numpy as np
import pandas as pd

from dmlstudy.data.copies import BITS, COLUMNS, KINDS, find_copies, perceptual_hashes
from dmlstudy.data.grouped_split import DROPPED

# Photographs of a set that a sentence names.
NAMED = 5


class CopySearch:
    """Finds copies among the images of a data set and says what they are for a split.

    ``near``, ``max_pixels``, ``threads``: see `copies.find_copies`. Call `look` for each image, from any
    thread, then `find`, then `judge`.

    ``table``: a row per photograph with the columns of `copies.find_copies`, then also ``part`` and
    ``problem``, which is that of its set: "in two classes" (one label may be wrong), "in two parts" (a
    test image finds its copy in the gallery), "twice", or "dropped" if only one of the set is used.
    """

    def __init__(self, near, *, max_pixels, threads=1):
        self.near, self.options = near, {"max_pixels": max_pixels, "threads": threads}
        self.hashes, self.table = {}, pd.DataFrame(columns=[*COLUMNS, "part", "problem"])

    def look(self, path, image):
        """Remember the hashes of an image that is open."""
        if self.near is None:
            return
        self.hashes[path] = perceptual_hashes(image)

    def find(self, folder, manifest):
        """Find the copies among the images of a manifest that `look` has seen."""
        hashes = None
        if self.near is not None:
            hashes = np.array([self.hashes[path] for path in manifest["path"]], dtype=np.uint8)
            hashes = hashes.reshape(len(manifest), 2, BITS // 8)
        self.table = find_copies(folder, manifest, hashes, near=self.near, **self.options)

    def renumbered(self, ids):
        """The table for images that are numbered anew: 0…n−1 for ``ids``; others are left out."""
        known = self.table[self.table["image_id"].isin(ids)]
        return known.assign(image_id=np.searchsorted(ids, known["image_id"]))

    def judge(self, split):
        """Add ``part`` and ``problem``; ``split``: a table image_id, part."""
        parts = self.table["image_id"].map(split.set_index("image_id")["part"]).fillna("")
        table = self.table.assign(part=parts.astype(object))
        used = table[table["part"] != DROPPED].groupby("set")
        kinds = used.agg(classes=("class_name", "nunique"), parts=("part", "nunique"))
        kinds["images"] = used.size()
        kinds = kinds[kinds["images"] > 1]
        problems = np.where(kinds["parts"] > 1, "in two parts", "twice")
        problems = np.where(kinds["classes"] > 1, "in two classes", problems)
        known = dict(zip(kinds.index, problems, strict=True))
        self.table = table.assign(problem=[known.get(one, "dropped") for one in table["set"]])

    def sentences(self):
        """(sentence, first row of the set, must it be fixed) of sets that are more than equal files.

        Near duplicates in one class and part are left out: they only count double.
        """
        for _, rows in self.table.groupby("set"):
            kind, problem = rows["kind"].iat[0], rows["problem"].iat[0]
            harmless = problem == "dropped" or (problem == "twice" and kind == KINDS[2])
            if kind == KINDS[0] or harmless:
                continue
            rows = rows[rows["part"] != DROPPED]
            named = "; ".join(
                f"{one.path} ({', '.join(filter(None, (one.class_name, one.part)))})"
                for one in rows.head(NAMED).itertuples()
            )
            more = f"; and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
            if kind == KINDS[1]:
                yield (
                    f"the same pixels {problem}: {named}{more}",
                    rows.iloc[0],
                    problem != "twice",
                )
            else:
                bits = f"up to {rows['distance'].max()} of {BITS} bits differ"
                yield f"nearly the same {problem} ({bits}): {named}{more}", rows.iloc[0], False
