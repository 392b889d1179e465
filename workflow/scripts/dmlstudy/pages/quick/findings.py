"""What the tables of combinations say, looked up by name. It computes nothing."""

from dataclasses import dataclass

import pandas as pd

from dmlstudy.evaluate.answer_tables import NEAREST
from dmlstudy.evaluate.combinations import BOTH, KNOWN, SEEN, UNSEEN
from dmlstudy.evaluate.enrolment import ALL

# Ways of answering in words; a way with parameters keeps them behind.
WAYS = {
    NEAREST: "the nearest photograph",
    "weighted_neighbours": "the weighted vote of the nearest photographs",
    "class_mean": "the nearest class mean",
    "centred_class_mean": "the nearest centred class mean",
    "calibrated_class_mean": "the nearest calibrated class mean",
    "lda": "linear discriminant analysis",
    "random_projection_ridge": "ridge regression on random features",
}
# Below so many test photographs, or classes of them, nothing is concluded.
LEAST_QUERIES, LEAST_CLASSES = 30, 5
# A number of photographs of a new class that is soon at hand.
FEW = "5"


def way_in_words(answer):
    """A way of answering in words: ``the weighted vote of the nearest photographs (k=5)``."""
    kind, space, parameters = answer.partition(" ")
    return f"{WAYS.get(kind, kind.replace('_', ' '))}{space}{parameters}"


def too_few(row):
    """Whether a figure rests on too few test photographs or classes for a conclusion."""
    return row["queries"] < LEAST_QUERIES or row["classes"] < LEAST_CLASSES


def told_apart(row):
    """Whether the difference between a row and the best one is shown: its interval excludes 0."""
    return not row["best"] and row["difference_to_best_high"] < 0


@dataclass(frozen=True)
class Findings:
    """The tables, and facts of the study.

    ``accuracy``, ``strangers``, ``costs``: tables of combinations/; ``facts``: see `plan.quick.facts`;
    ``photographs``: {"train", "test", "classes", "copies"}, numbers of them.
    """

    accuracy: pd.DataFrame
    strangers: pd.DataFrame
    costs: pd.DataFrame
    facts: dict
    photographs: dict

    def features(self, experiment):
        """The features of an experiment in words: its backbone."""
        (found,) = (one for one in self.facts["features"] if one["experiment"] == experiment)
        others = [one for one in self.facts["features"] if one["backbone"] == found["backbone"]]
        # Two experiments may differ in their weights alone.
        return found["backbone"] if len(others) == 1 else f"{found['backbone']} ({experiment})"

    def combination(self, row):
        """A combination in words."""
        return f"{self.features(row['experiment'])}, answered by {way_in_words(row['answer'])}"

    def rows(self, figure, images=ALL):
        """Rows of one figure of accuracy.csv, the best first; none if the study has no such size."""
        table = self.accuracy
        found = table[(table["figure"] == figure) & (table["images_per_class"] == images)]
        return found.sort_values(["best", "value"], ascending=False, kind="stable").to_dict(
            "records"
        )

    def best(self, figure=BOTH, images=ALL):
        """The row of the best combination, or None."""
        return next(iter(self.rows(figure, images)), None)

    def row(self, figure, combination, images=ALL):
        """The row of a combination (any row of it), or None."""
        return next((one for one in self.rows(figure, images) if same(one, combination)), None)

    def parts(self, combination):
        """Rows of a combination: of all classes, seen and unseen ones, with all images enrolled."""
        return {figure: self.row(figure, combination) for figure in (KNOWN, SEEN, UNSEEN)}

    def curve(self, combination):
        """Rows of the accuracy of new classes by number of enrolled images, without 0."""
        sizes = dict.fromkeys(self.accuracy["images_per_class"])
        found = (self.row(UNSEEN, combination, size) for size in sizes if size != "0")
        return sorted(
            (one for one in found if one), key=lambda one: _order(one["images_per_class"])
        )

    def stranger(self, combination):
        return _only(self.strangers, combination)

    def cost(self, combination):
        return _only(self.costs, combination)

    def best_for_strangers(self):
        """The row of strangers.csv with the highest AUROC; None if no query is a stranger."""
        known = self.strangers.dropna(subset=["auroc"])
        return None if known.empty else known.loc[known["auroc"].idxmax()].to_dict()


def same(one, other):
    """Whether two rows are of one combination."""
    return (one["experiment"], one["answer"]) == (other["experiment"], other["answer"])


def _order(size):
    return float("inf") if size == ALL else int(size)


def _only(table, combination):
    chosen = (table["experiment"] == combination["experiment"]) & (
        table["answer"] == combination["answer"]
    )
    (found,) = table[chosen].to_dict("records")
    return found
