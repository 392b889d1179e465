"""What a selection may look at: training images of classes that every limited model sees.

Neither a test image nor an image of a class that is unseen to any model is in the table, so that
nothing that reads it can choose by them.
"""

import numpy as np

from dmlstudy.core.files import StudyError

# Parts of the table. A candidate is trained on the first and asked about the others.
TRAIN, VALIDATION, HELD_OUT = "train", "validation", "held_out"


def _rounded(share, count):
    """``share`` of ``count`` things: at least one, and not all."""
    return min(count - 1, max(1, round(share * count)))


def hold_out(manifest, split, class_sets, *, validation_share, held_out_share, seed):
    """Table ``image_id, class_id, part`` of the training images that a selection works with.

    Classes: those that are seen in every class set. ``held_out_share`` of them is drawn and held out
    of training with all its images (part ``held_out``). Of each other class, ``validation_share`` of
    the images become queries (``validation``); the rest is ``train``.
    Raises StudyError where too few classes or images are left.
    """
    seen = class_sets.groupby("class_id")["seen"].min()
    common = np.array(sorted(seen.index[seen == 1]))
    held = max(1, round(held_out_share * len(common)))
    if len(common) - held < 2:
        raise StudyError(
            f"selection: {len(common)} of {len(seen)} classes are seen in every class set; with "
            f"{held} held out, fewer than two are left to train on. Leave fewer classes unseen "
            "(protocol.unseen_classes), draw fewer class sets, or lower "
            "protocol.selection.held_out_share"
        )
    held_out = set(np.random.default_rng(seed).choice(common, held, replace=False).tolist())
    table = manifest[["image_id", "class_id", "class_name"]].merge(split, on="image_id")
    table = table[(table["part"] == "train") & table["class_id"].isin(common)].sort_values(
        "image_id"
    )
    for class_id, rows in table.groupby("class_id"):
        if len(rows) < 2:
            raise StudyError(
                f"selection: class {rows['class_name'].iloc[0]!r} has one training image; choosing "
                "needs one to answer and one to ask"
            )
        if class_id in held_out:
            table.loc[rows.index, "part"] = HELD_OUT
            continue
        # A generator per class: its images do not depend on what other classes there are.
        drawn = np.random.default_rng([seed, class_id]).permutation(rows.index)
        table.loc[drawn[: _rounded(validation_share, len(rows))], "part"] = VALIDATION
    return table[["image_id", "class_id", "part"]].reset_index(drop=True)
