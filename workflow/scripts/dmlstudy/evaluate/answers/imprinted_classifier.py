"""A trained classifier whose new classes are imprinted (Qi, Brown, Lowe: Low-Shot Learning with Imprinted
Weights, CVPR 2018).

The score of a base class is the cosine of the query and the class's weights, as the model's loss learnt them;
the weights of a new class are the mean of its features, normalised. Only for models whose loss has a vector
per class.
"""

from dmlstudy.core.files import StudyError
from dmlstudy.evaluate.answers.answer import normalised
from dmlstudy.evaluate.answers.class_mean import ClassMean


class ImprintedClassifier(ClassMean):
    """A score is the cosine of the query and the weights of the class.

    ``weights``: {id of a base class: vector (d,)}; more photographs of such a class do not change it.
    """

    needs_weights = True

    def __init__(self):
        super().__init__()
        self.weights = None

    def with_weights(self, weights):
        """Set the trained class weights. Returns self."""
        self.weights = weights
        return self

    def _fit(self):
        if not self.weights:
            raise StudyError("a classifier that classes are imprinted into needs its class weights")
        widths = {len(one) for one in self.weights.values()}
        if widths != {self.features.shape[1]}:
            raise StudyError(
                f"class weights of {sorted(widths)[0]} dimensions do not fit features of "
                f"{self.features.shape[1]}: they are of another model"
            )
        super()._fit()

    def prototypes(self):
        vectors = self.sums.means
        for row, class_id in enumerate(self.classes.tolist()):
            if class_id in self.weights:
                vectors[row] = self.weights[class_id]
        return normalised(vectors)


def build():
    """Weight imprinting."""
    return ImprintedClassifier()
