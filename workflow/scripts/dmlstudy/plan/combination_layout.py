"""Where the files about combinations lie: features that are not fitted, each with a way of answering."""

from dmlstudy.plan.layout import ANSWER_HITS
from dmlstudy.plan.study import ALL_CLASSES

# Tables over all combinations, without their ending.
TABLES = ("accuracy", "strangers", "costs")


class CombinationLayout:
    """Names of files about the combinations of a study. ``files``: its `Layout`."""

    def __init__(self, files):
        self.files, self.study = files, files.study

    def tables(self):
        return [f"{self.files.results}/combinations/{name}.csv" for name in TABLES]

    def inputs(self):
        """What combinations are compared by, without names: files of the experiments, costs of features."""
        names = ("answers.csv", ANSWER_HITS, "answers_costs.csv", "rejection_thresholds.csv")
        return [
            *(
                f"{self.files.results}/experiments/{experiment}/{name}"
                for experiment in self.study.unfitted
                for name in names
            ),
            *self.feature_costs().values(),
        ]

    def feature_costs(self):
        """{experiment: what the stored features of a combination cost}."""
        study, found = self.study, {}
        for experiment in study.unfitted:
            name = self.files.feature_set(
                study.experiments[experiment], ALL_CLASSES, study.seeds[0]
            )
            found[experiment] = f"{self.files.results}/features/{name}/cost.json"
        return found

    def weights(self):
        """The files of weights that the features of all combinations start from, and their digests."""
        study, found = self.study, {}
        for experiment in study.unfitted:
            entry = study.experiments[experiment]
            found |= dict.fromkeys(
                self.files.weights(
                    entry["initializer"], entry["backbone"], ALL_CLASSES, study.seeds[0]
                ).values()
            )
        return list(found)

    def page(self):
        return f"{self.files.results}/index.html"
