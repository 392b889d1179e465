"""One experiment, as the sections of its page read it."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from dmlstudy.explain.heatmap_files import Heatmaps
from dmlstudy.pages.images import PageImages


@dataclass(frozen=True)
class Experiment:
    """Tables and images of a finished experiment.

    ``description``: its config.yaml, a mapping; ``metrics``: its summary.csv; ``health``: its
    health.csv; ``answers``: its tables answers and answers_enrolment;
    ``rejection_scores``, ``rejection_thresholds``: tables of these names. ``runs``: per seed
    {"seed", "models": {class set: {name: table}}}, the full class set first. Each model has the
    tables summary, curves, metrics, queries, confusions and classification_report. Limited models
    also have scalars, comparison, neighbours, enrolment, rejection and rejection_curve. The first
    two models of the first seed have map. ``class_sets``: the tables of all class sets, as one;
    ``heatmaps``: of the first seed.
    """

    name: str
    description: dict
    metrics: pd.DataFrame
    health: pd.DataFrame
    answers: dict
    rejection_scores: pd.DataFrame
    rejection_thresholds: pd.DataFrame
    runs: list
    class_sets: pd.DataFrame
    heatmaps: Heatmaps
    images: PageImages

    @property
    def seed(self):
        """The first seed. Most sections show only its models."""
        return self.runs[0]["seed"]

    @property
    def models(self):
        """The models of the first seed: {class set: {name: table}}."""
        return self.runs[0]["models"]

    @property
    def full(self):
        """Name of the full class set."""
        return next(iter(self.models))

    @property
    def limited(self):
        """Name of the first limited class set."""
        return list(self.models)[1]

    @cached_property
    def class_names(self):
        """Class names in order of class ids."""
        classes = self.images.manifest.drop_duplicates("class_id").sort_values("class_id")
        return classes["class_name"].tolist()

    @cached_property
    def seen(self):
        """{class set: boolean mask over classes}."""
        return {
            class_set: rows.sort_values("class_id")["seen"].to_numpy(dtype=bool)
            for class_set, rows in self.class_sets.groupby("class_set", sort=False)
        }
