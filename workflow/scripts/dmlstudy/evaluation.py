"""From embeddings to tables: what a run's model is worth. No torch here."""

import numpy as np
import pandas as pd

from dmlstudy.metrics import precision_at_1, precision_at_1_by_class
from dmlstudy.search import nearest_neighbours


def answer_queries(embeddings, class_ids, threads=None):
    """The nearest gallery image of every query, as a table.

    ``embeddings``: mapping with ``gallery_embeddings`` (m, dim), ``gallery_image_ids`` (m,),
    ``query_embeddings`` (n, dim), ``query_image_ids`` (n,) and, for a classifier,
    ``query_softmax_class_ids`` (n,). ``class_ids``: class of each image, indexed by image id.
    Columns: image_id, class_id, nearest_image_id, nearest_class_id, similarity (cosine), correct
    (0 or 1), and softmax_class_id where there is one. A query whose class is not in the gallery
    cannot be right and counts as wrong.
    """
    gallery_ids = embeddings["gallery_image_ids"]
    query_ids = embeddings["query_image_ids"]
    similarities, rows = nearest_neighbours(
        embeddings["query_embeddings"],
        embeddings["gallery_embeddings"],
        ids=gallery_ids,
        threads=threads,
    )
    nearest = gallery_ids[rows[:, 0]]
    table = pd.DataFrame(
        {
            "image_id": query_ids,
            "class_id": class_ids[query_ids],
            "nearest_image_id": nearest,
            "nearest_class_id": class_ids[nearest],
            "similarity": similarities[:, 0],
        }
    )
    table["correct"] = (table["class_id"] == table["nearest_class_id"]).astype(int)
    if "query_softmax_class_ids" in embeddings:
        table["softmax_class_id"] = embeddings["query_softmax_class_ids"]
    return table


def class_metrics(queries, gallery_class_ids, class_names):
    """Per class: class_name, test_samples, train_samples, precision_at_1 (empty without queries)."""
    count = len(class_names)
    return pd.DataFrame(
        {
            "class_name": class_names,
            "test_samples": np.bincount(queries["class_id"], minlength=count),
            "train_samples": np.bincount(gallery_class_ids, minlength=count),
            "precision_at_1": precision_at_1_by_class(
                queries["correct"], queries["class_id"], count
            ),
        }
    )


def classification_report(queries, class_names):
    """scikit-learn's report of nearest-neighbour classification, a row per class and average."""
    from sklearn.metrics import classification_report as report

    # A class may be called like an average ("accuracy"): numbers keep them apart in the report.
    names = {str(index): name for index, name in enumerate(class_names)}
    table = report(
        queries["class_id"],
        queries["nearest_class_id"],
        labels=range(len(names)),
        target_names=list(names),
        output_dict=True,
        zero_division=0,
    )
    rows = []
    accuracy = precision_at_1(queries["correct"])
    for key, values in table.items():
        if not isinstance(values, dict):
            values = {key: accuracy for key in ("precision", "recall", "f1-score")}
            values["support"] = len(queries)
        rows.append(
            {
                "class_name": names.get(key, key),
                "row": "class" if key in names else "average",
                "precision": values["precision"],
                "recall": values["recall"],
                "f1_score": values["f1-score"],
                "support": int(values["support"]),
            }
        )
    return pd.DataFrame(rows)


def summarise(queries, gallery_size, seen, last_test_accuracy):
    """Scalars of a run. ``seen``: boolean mask over classes; shares are of queries (micro).

    ``test_accuracy_known_classes`` is the last point of the training curve: queries and gallery of
    the classes that the model was trained on. All others search the whole gallery.
    """
    correct = queries["correct"].to_numpy(dtype=float)
    known = seen[queries["class_id"]]
    by_class = precision_at_1_by_class(correct, queries["class_id"], len(seen))
    result = {
        "queries": len(queries),
        "gallery": int(gallery_size),
        "classes": len(seen),
        "seen_classes": int(seen.sum()),
        "precision_at_1": precision_at_1(correct),
        "macro_precision_at_1": float(np.nanmean(by_class)),
        "precision_at_1_seen_classes": precision_at_1(correct[known]),
        "precision_at_1_unseen_classes": precision_at_1(correct[~known]),
        "test_accuracy_known_classes": last_test_accuracy,
    }
    if "softmax_class_id" in queries:
        right = (queries["softmax_class_id"] == queries["class_id"]).to_numpy()
        result["softmax_accuracy_known_classes"] = precision_at_1(right[known])
    return {key: None if value != value else value for key, value in result.items()}


def compare_class_sets(all_metrics, limited_metrics, seen):
    """Per-class tables of two models and their drops, for unseen, seen and all classes.

    ``all_metrics``, ``limited_metrics``: tables of `class_metrics`. Returns ({"unseen": table, …},
    scalars); a drop is precision@1 of the all-classes model minus that of the limited one, averaged
    over the classes (macro) that have queries.
    """
    table = pd.DataFrame(
        {
            "class_name": all_metrics["class_name"],
            "all_classes_precision_at_1": all_metrics["precision_at_1"],
            "limited_classes_precision_at_1": limited_metrics["precision_at_1"],
        }
    )
    tables = {"unseen": table[~seen], "seen": table[seen], "all": table}
    scalars = {}
    for name, part in tables.items():
        drops = part["all_classes_precision_at_1"] - part["limited_classes_precision_at_1"]
        mean = float(drops.mean())
        scalars[f"precision_drop_{name}_classes"] = None if mean != mean else mean
    return tables, scalars
