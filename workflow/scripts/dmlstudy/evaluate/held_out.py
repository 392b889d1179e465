"""The images that a selection may use: training images of classes that each limited model has seen.

The table holds no test image, and no image of a class that is unseen to any model. So nothing that
reads the table can select on them.
"""

import numpy as np

from dmlstudy.core.by_class import rows_by_class
from dmlstudy.core.files import StudyError

# The parts. A candidate is trained on the first; the other two are its queries.
TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"


def _rounded(share, count):
    """``share`` of ``count`` as a whole number, at least 1 and less than ``count``."""
    return min(count - 1, max(1, round(share * count)))


def hold_out(manifest, split, class_sets, *, validation_share, held_out_share, seed):
    """Table ``image_id, class_id, part`` of the training images that a selection may use.

    It holds the classes that are seen in each class set. A random ``held_out_share`` of these
    classes is held out of training with all images (part ``held_out``). Of each other class, a
    random ``validation_share`` of the images become queries (part ``validation``); the others are
    for training (part ``train``). Raises StudyError if too few classes or images are left.
    """
    seen = class_sets.groupby("class_id")["seen"].min()
    common = np.array(sorted(seen.index[seen == 1]))
    held = max(1, round(held_out_share * len(common)))
    if len(common) - held < 2:
        raise StudyError(
            f"selection: {len(common)} of {len(seen)} classes are seen in every class set; with "
            f"{held} held out, fewer than two are left to train on. Lower protocol.unseen_classes, "
            "protocol.unseen_draws or protocol.selection.held_out_share"
        )
    held_out = set(np.random.default_rng(seed).choice(common, held, replace=False).tolist())
    table = manifest[["image_id", "class_id", "class_name"]].merge(split, on="image_id")
    table = table[(table["part"] == "train") & table["class_id"].isin(common)].sort_values(
        "image_id"
    )
    parts = table["part"].to_numpy(dtype=object, copy=True)
    for class_id, rows in rows_by_class(table["class_id"].to_numpy()):
        if len(rows) < 2:
            raise StudyError(
                f"selection: class {table['class_name'].iat[rows[0]]!r} has one training image; a "
                "selection needs two: one for the gallery and one query"
            )
        if class_id in held_out:
            parts[rows] = HELD_OUT
            continue
        # A generator per class, so that the draw does not depend on the other classes.
        drawn = np.random.default_rng([seed, class_id]).permutation(rows)
        parts[drawn[: _rounded(validation_share, len(rows))]] = VALIDATION
    table = table.assign(part=parts)
    return table[["image_id", "class_id", "part"]].reset_index(drop=True)
