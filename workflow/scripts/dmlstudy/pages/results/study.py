"""A finished study: what was run, and its numbers by name. Sentences and pictures read it."""

import math
from dataclasses import dataclass
from functools import cached_property

# A row of differences.csv that compares a trained experiment with the features that it started from.
UNTRAINED = "untrained"
# Accuracy of limited models on the classes that they were not trained on.
UNSEEN = "limited_precision_at_1_unseen_classes"
NEAREST = "nearest_neighbour"


@dataclass(frozen=True)
class Study:
    """``about``: what was run, see `facts.facts`; ``tables``: {name: data frame} of the comparison.

    ``speaks_of``: the experiment that sentences speak of; None for the study's own choice, see
    `leading`.
    """

    about: dict
    tables: dict
    speaks_of: str | None = None

    # What was run.

    @property
    def drawn(self):
        return self.about["dataset"]["drawn"]

    @property
    def seeds(self):
        return self.about["seeds"]

    @cached_property
    def rows(self):
        """{experiment: its row of experiments.csv}, in the order of the study."""
        return {row["experiment"]: row for row in self.tables["experiments"].to_dict("records")}

    def entry(self, name):
        """What study.json says of an experiment."""
        return self.about["experiments"][name]

    @property
    def untrained(self):
        return [name for name in self.rows if self.entry(name)["untrained"]]

    @property
    def trained(self):
        return [name for name in self.rows if not self.entry(name)["untrained"]]

    @property
    def heads_only(self):
        """Whether no experiment trained its network: heads alone, on frozen features."""
        recipes = [self.entry(name)["recipe"] for name in self.trained]
        # Studies that were kept before networks could be frozen do not say it.
        return bool(recipes) and not any(one.get("backbone_trains", True) for one in recipes)

    @property
    def classifier(self):
        """The classical classifier: the experiment that has a softmax; None without one."""
        found = self.tables["metrics"]
        found = found[found["metric"] == "softmax_accuracy"]["experiment"]
        return found.iat[0] if len(found) else None

    @property
    def metric_models(self):
        """Trained experiments with a metric loss."""
        return [name for name in self.trained if name != self.classifier]

    @property
    def leading(self):
        """The experiment that sentences speak of: the baseline, or else the first with a metric loss.

        It is never the best one: that was chosen by the same answers, so its number is too high.
        """
        if self.speaks_of:
            return self.speaks_of
        baseline = self.about["baseline"]
        models = self.metric_models or self.trained or list(self.rows)
        return baseline if baseline in models else models[0]

    def recipe_values(self, key):
        """The values of a key of the trained experiments' recipes, each once, in order."""
        return list(dict.fromkeys(self.entry(name)["recipe"][key] for name in self.trained))

    # Its numbers.

    @cached_property
    def _metrics(self):
        table = self.tables["metrics"]
        return {(row["experiment"], row["metric"]): row for row in table.to_dict("records")}

    def metric(self, experiment, metric):
        """{"value", "low", "high", …} of an experiment's metric, or None."""
        return self._metrics.get((experiment, metric))

    @cached_property
    def _differences(self):
        table = self.tables["differences"]
        return {
            (row["experiment"], row["role"], row["metric"]): row for row in table.to_dict("records")
        }

    def difference(self, experiment, role, metric="precision_at_1"):
        """A row of differences.csv, or None."""
        return self._differences.get((experiment, role, metric))

    def enrolment(self, experiment):
        """Accuracy on unseen classes by enrolled images: [{"images", "value", "low", "high"}].

        Of the limited models and their nearest neighbours, the mean over seeds and draws of unseen
        classes. With several of these, there is no interval (NaN). ``images``: number, or "all".
        """
        table = self.tables["enrolment"]
        own = table[
            (table["experiment"] == experiment)
            & (table["model"] == table["class_set"])
            & (table["method"] == NEAREST)
        ]
        found = []
        for images, rows in own.groupby(own["images_per_class"].astype(str), sort=False):
            one = len(rows) == 1
            found.append(
                {
                    "images": images,
                    "value": rows["unseen_accuracy"].mean(),
                    "low": rows["low"].iat[0] if one else math.nan,
                    "high": rows["high"].iat[0] if one else math.nan,
                }
            )
        return found

    def rejection(self, experiment):
        """AUROC of rejecting unseen classes: {"value", "low", "high", "false_positives"}; or None.

        Of the limited models, the mean over seeds and draws, without an interval (NaN) if there are
        several.
        """
        table = self.tables["rejection"]
        own = table[(table["experiment"] == experiment) & (table["model"] == table["class_set"])]
        if own.empty:
            return None
        one = len(own) == 1
        return {
            "value": own["auroc"].mean(),
            "low": own["auroc_low"].iat[0] if one else math.nan,
            "high": own["auroc_high"].iat[0] if one else math.nan,
            "false_positives": own["false_positive_rate_at_95_tpr"].mean(),
        }

    def train_seconds(self, experiment):
        """Seconds that training an experiment on all classes took, the mean over seeds."""
        costs = self.tables["costs"]
        own = costs[(costs["experiment"] == experiment) & (costs["class_set"] == "all_classes")]
        return own["train_seconds"].mean()
