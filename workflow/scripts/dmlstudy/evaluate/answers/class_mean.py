"""The nearest class mean: cosine to the mean of the features of a class (Mensink et al., TPAMI 2013).

Nearest class mean with L2-normalised features is also what iCaRL (Rebuffi et al., CVPR 2017) answers with.
"""

from dmlstudy.evaluate.answers.answer import Answer, ClassSums, normalised


class ClassMean(Answer):
    """A score is the cosine of the query and the mean of the class's features."""

    def _refit(self):
        self.sums = ClassSums.of(self.features, self.class_ids)

    def _add(self, before):
        self.sums = self.sums.plus(ClassSums.of(self.features[before:], self.class_ids[before:]))

    def prototypes(self):
        """A vector of length 1 for each class: float64 (c, d)."""
        return normalised(self.sums.means)

    def _scores(self, queries, kept):
        return queries.astype(float) @ self.prototypes().T


def build():
    """Plain class means."""
    return ClassMean()
