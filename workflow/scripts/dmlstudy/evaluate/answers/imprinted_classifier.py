"""A trained classifier whose new classes are imprinted (Qi, Brown, Lowe: Low-Shot Learning with Imprinted
Weights, CVPR 2018).

The score of a base class is the cosine of the query and the class's weights, as the model's loss learnt them;
the weights of a new class are the mean of its features, normalised. Only for models whose loss has a vector
per class.
"""

import numpy as np

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


# {kind of loss: (name of its class weights in model.pt, axis of the classes)}. Losses with several vectors
# per class are left out.
CLASS_WEIGHTS = {
    "crossentropy": ("classifier.weight", 0),
    "arcface": ("W", 1),
    "normalized_softmax": ("W", 1),
    "proxy_nca": ("proxies", 0),
    "proxy_anchor": ("proxies", 0),
}


def class_weights(kind, state, class_ids):
    """{class id: weights (d,), float64} of a trained loss.

    ``kind``: of the loss, one of `CLASS_WEIGHTS`; ``state``: its weights by name, as arrays;
    ``class_ids``: class of each label.
    """
    name, axis = CLASS_WEIGHTS[kind]
    vectors = np.moveaxis(np.asarray(state[name], dtype=np.float64), axis, 0)
    return dict(zip(map(int, class_ids), vectors, strict=True))
