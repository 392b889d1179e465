"""The scores by name, in the order of tables. Higher: rather an image of an enrolled class.

To add one, write a module beside this with a function ``score(case)`` and add a line here.
"""

from dmlstudy.evaluate.scores import energy, mahalanobis, margin, similarity

SCORES = {
    "similarity": similarity.score,
    "margin": margin.score,
    "energy": energy.score,
    "mahalanobis": mahalanobis.score,
}
