"""Similarity to the nearest image minus that to the nearest image of another class.

It is the difference of the two best class scores (Scheffer et al., Active Hidden Markov Models for
Information Extraction, 2001), here of similarities.
"""


def score(case):
    """Scores (n,) of a `Case`, at least 0. With one class, the other similarity counts as -1."""
    nearest, other = case.two_nearest
    return nearest - other
