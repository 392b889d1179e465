"""What a database has to change so that it holds another `Gallery`."""

import numpy as np


def difference(before, after):
    """(image ids to remove, rows of ``after`` to add), for two `Gallery`; ``before`` may be None.

    An image that differs in anything but the name of its class is removed and added. Images that stay come first and
    keep their order, as after every enrolment and removal; in any other order, all are removed and added.
    """
    rows = np.arange(len(after.table))
    if before is None:
        return [], rows
    gone = before.table["image_id"].to_numpy()
    if before.embeddings.shape[1] != after.embeddings.shape[1]:
        return gone.tolist(), rows
    _, old, new = np.intersect1d(gone, after.table["image_id"].to_numpy(), return_indices=True)
    same = (before.embeddings[old] == after.embeddings[new]).all(axis=1)
    for one, other in zip(_columns(before), _columns(after), strict=True):
        same &= one[old] == other[new]
    old, new = old[same], new[same]
    order = np.argsort(old)
    if not np.array_equal(new[order], np.arange(len(new))):
        return gone.tolist(), rows
    return np.delete(gone, old).tolist(), rows[len(new) :]


def _columns(gallery):
    digests = [gallery.digests.get(one) for one in gallery.table["image_id"].tolist()]
    columns = [gallery.table[name].to_numpy(dtype=object) for name in ("class_id", "path")]
    return [*columns, np.array(digests, dtype=object)]


def class_names(gallery):
    """{class id: name} of the classes that have images."""
    rows = gallery.table.drop_duplicates("class_id")
    return dict(zip(rows["class_id"].tolist(), rows["class_name"], strict=True))
