"""Cosine similarity to the nearest gallery image: the study's own score."""


def score(case):
    """Scores (n,) of a `Case`, between -1 and 1."""
    return case.two_nearest[0]
