"""Negative free energy of the class similarities (Liu et al., Energy-based Out-of-distribution
Detection, NeurIPS 2020): T · log Σ exp(similarity of a class / T).

With a small temperature it is the similarity to the nearest image, with a large one the mean over classes.
"""

import numpy as np

# Similarities lie between -1 and 1, logits do not: with the paper's temperature of 1, all classes would
# count almost equally. This is the temperature of the study's NT-Xent loss.
TEMPERATURE = 0.1


def score(case):
    """Scores (n,) of a `Case`."""
    values = case.class_similarities
    most = values.max(axis=1)
    total = np.exp((values - most[:, None]) / TEMPERATURE).sum(axis=1)
    return most + TEMPERATURE * np.log(total)
