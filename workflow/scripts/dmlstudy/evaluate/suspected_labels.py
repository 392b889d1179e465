"""Photographs whose label may be wrong: their neighbours in the space of embeddings have another one.

Labels of test images are used as well, so nothing here may be used to train, to select or to score.
"""

import numpy as np
import pandas as pd

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.leave_one_out import nearest_others

# Most neighbours that vote on a label.
NEIGHBOURS = 50
COLUMNS = ["image_id", "class_id", "suggested_class_id", "score", "nearest_image_id"]


def neighbour_shares(embeddings, class_ids, *, threads=None):
    """Share of each class among the nearest other images: (shares, nearest image ids).

    ``embeddings``: as of `retrieval.read_embeddings`; ``class_ids``: class of each image, by image id.
    Gallery and queries are one set here, and each image is left out of its own neighbours. As many
    vote as the median class has other images, at most `NEIGHBOURS`. Returns image ids (n,), shares
    (n, classes) and the id of the nearest other image (n,).
    """
    ids = np.concatenate([embeddings["gallery_image_ids"], embeddings["query_image_ids"]])
    vectors = np.concatenate([embeddings["gallery_embeddings"], embeddings["query_embeddings"]])
    if len(ids) < 3:
        raise StudyError("suspected labels need at least three images")
    labels = class_ids[ids]
    counts = np.bincount(labels)
    votes = int(np.clip(np.median(counts[counts > 0]) - 1, 1, NEIGHBOURS))
    votes = min(votes, len(ids) - 1)
    rows = nearest_others(vectors, ids, votes, threads=threads)
    # Single precision: all images by all classes are the largest table of the study.
    shares = np.zeros((len(ids), len(counts)), dtype=np.float32)
    np.add.at(shares, (np.arange(len(ids))[:, None], labels[rows]), 1 / votes)
    return ids, shares, ids[rows[:, 0]]


def suspected_labels(embeddings, class_ids, *, threads=None):
    """Table of suspected labels with the columns `COLUMNS`, the most suspect first.

    cleanlab's confident learning (Northcutt et al., JAIR 2021) decides, with the shares of
    `neighbour_shares` as probabilities: both of its prunings must agree. ``score`` is its normalized
    margin, 0 (suspect) to 1: the share of the given class minus the largest share of another.
    Arguments: see `neighbour_shares`.
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    ids, shares, nearest = neighbour_shares(embeddings, class_ids, threads=threads)
    # cleanlab expects classes 0…n−1 that all have images.
    present, labels = np.unique(class_ids[ids], return_inverse=True)
    shares = shares[:, present]
    if len(present) < 2:
        return pd.DataFrame(columns=COLUMNS)
    scores = get_label_quality_scores(labels, shares, method="normalized_margin")
    found = find_label_issues(labels, shares, filter_by="both", n_jobs=1)
    table = pd.DataFrame(
        {
            "image_id": ids,
            "class_id": class_ids[ids],
            "suggested_class_id": present[shares.argmax(axis=1)],
            "score": scores,
            "nearest_image_id": nearest,
        }
    )
    found &= (table["class_id"] != table["suggested_class_id"]).to_numpy()
    return table[found].sort_values(["score", "image_id"], ignore_index=True)[COLUMNS]
