"""A strip of the data set: a photograph each of some seen and some unseen classes."""

import numpy as np

# Classes of each kind in the strip.
MOST = 12


def strip(images, seen):
    """What the macro ``strip`` shows: {"seen": [image], "unseen": [image], "classes": (seen, unseen)}.

    ``images``: a `PageImages`; ``seen``: boolean mask over classes, of a limited class set. Classes are
    spread evenly over all of their kind.
    """
    kinds = {"seen": np.flatnonzero(seen), "unseen": np.flatnonzero(~np.asarray(seen))}
    found = {"classes": [len(classes) for classes in kinds.values()]}
    for kind, classes in kinds.items():
        places = np.linspace(0, len(classes) - 1, min(MOST, len(classes))).round().astype(int)
        found[kind] = [images.example(classes[place]) for place in places]
    return found
