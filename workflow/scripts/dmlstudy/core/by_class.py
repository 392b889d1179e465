"""Rows of a table by class. NumPy only."""

import numpy as np


def rows_by_class(class_ids):
    """[(class id, its rows)], both ascending; ``class_ids``: integers (n,)."""
    if not len(class_ids):
        return []
    order = np.argsort(class_ids, kind="stable")
    classes, starts = np.unique(class_ids[order], return_index=True)
    return list(zip(classes, np.split(order, starts[1:]), strict=True))
